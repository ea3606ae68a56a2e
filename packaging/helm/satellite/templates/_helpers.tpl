{{/* A label of DNS, which a Service needs: a release's name may have dots. */}}
{{- define "satellite.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
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

{{/* Seconds that the program has after it was told to stop: shutdownTimeout, and some to close what it has open. */}}
{{- define "satellite.stopSeconds" -}}
{{- $seconds := 15.0 -}}
{{- $unit := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m|h)" .Values.shutdownTimeout -1 -}}
{{- $seconds = addf $seconds (mulf (float64 (regexFind "[0-9.]+" .)) (get $unit (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- ceil $seconds | int -}}
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
{{- $labels := set (fromYaml (include "satellite.labels" .)) "app.kubernetes.io/component" "" -}}
{{- range $name, $value := $v.podLabels -}}
{{- if hasKey $labels $name -}}{{- fail (printf "podLabels: %s is the chart's own" $name) -}}{{- end -}}
{{- end -}}
{{- /* One that is set twice: kubectl and Helm mix both up at the next upgrade. */}}
{{- $names := list -}}
{{- range fromYamlArray (include "satellite.env" .) }}{{ $names = append $names .name }}{{ end -}}
{{- range $v.extraEnv -}}
{{- if has .name $names -}}{{- fail (printf "extraEnv: %s is set already, by another value of the chart or further up in extraEnv" .name) -}}{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
