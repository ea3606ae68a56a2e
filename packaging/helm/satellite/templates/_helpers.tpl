{{- define "satellite.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "satellite.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "satellite.labels" -}}
{{ include "satellite.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "satellite.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (.Chart.AppVersion | replace "+" "_") }}
{{- end -}}
{{- end -}}

{{- define "satellite.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "satellite.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* The URL under which agents reach the Satellite. */}}
{{- define "satellite.siteUrl" -}}
https://{{ include "satellite.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- end -}}

{{/* The Secret with the authority by which agents know it. */}}
{{- define "satellite.siteCa" -}}
{{ .Values.site.caSecret | default .Values.lan.tls.existingSecret }}
{{- end -}}

{{/* What the program would refuse at its start is refused here. */}}
{{- define "satellite.validate" -}}
{{- $v := .Values -}}
{{- if and (has $v.identity.type (list "joinToken" "token")) (not $v.identity.existingSecret) -}}
{{- fail (printf "identity.existingSecret: identity.type %s needs it" $v.identity.type) -}}
{{- end -}}
{{- if and (ne $v.identity.type "none") (not $v.groundControlUrl) -}}
{{- fail "groundControlUrl: say where Ground Control is, or identity.type none" -}}
{{- end -}}
{{- if and $v.service.nodePort (eq $v.service.type "ClusterIP") -}}
{{- fail "service.nodePort: service.type ClusterIP has none" -}}
{{- end -}}
{{- if eq $v.mode "site" -}}
{{- if not $v.site.tokenSecret -}}{{- fail "site.tokenSecret: name the Secret with the token that agents show" -}}{{- end -}}
{{- if not (include "satellite.siteCa" .) -}}{{- fail "site.caSecret: name the Secret with ca.crt, by which agents know the Satellite (satellite ca export)" -}}{{- end -}}
{{- if and $v.agent.mirrors.enabled (not (and $v.agent.mirrors.endpoint $v.agent.mirrors.accountSecret)) -}}
{{- fail "agent.mirrors: endpoint and accountSecret are needed" -}}
{{- end -}}
{{- if not (hasPrefix "unix:///" $v.agent.runtimeEndpoint) -}}{{- fail "agent.runtimeEndpoint: must be unix:///path/of/a.sock" -}}{{- end -}}
{{- end -}}
{{- end -}}
