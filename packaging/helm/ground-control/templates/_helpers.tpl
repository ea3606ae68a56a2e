{{/* A label of DNS, which a Service needs: a release's name may have dots. */}}
{{- define "ground-control.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ground-control.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ground-control.labels" -}}
{{ include "ground-control.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "ground-control.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (.Chart.AppVersion | replace "+" "_") }}
{{- end -}}
{{- end -}}

{{- define "ground-control.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "ground-control.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* Whether something is kept in the volume: the database, the built-in registry or the key. */}}
{{- define "ground-control.persistent" -}}
{{- if kindIs "bool" .Values.persistence.enabled -}}
{{- if .Values.persistence.enabled }}true{{ end -}}
{{- else if or (eq .Values.database.type "sqlite") (eq .Values.registry.backend "builtin") -}}
true
{{- end -}}
{{- end -}}

{{/* Seconds that the program has after it was told to stop: shutdownTimeout, and some to close what it has open. */}}
{{- define "ground-control.stopSeconds" -}}
{{- $seconds := 15.0 -}}
{{- $unit := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m|h)" .Values.shutdownTimeout -1 -}}
{{- $seconds = addf $seconds (mulf (float64 (regexFind "[0-9.]+" .)) (get $unit (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- ceil $seconds | int -}}
{{- end -}}

{{/* What the program would refuse at its start is refused here. */}}
{{- define "ground-control.validate" -}}
{{- $v := .Values -}}
{{- if not $v.publicUrl -}}
{{- fail "publicUrl: say under which URL satellites and people reach Ground Control (https://gc.example.com)" -}}
{{- end -}}
{{- if and (eq $v.database.type "postgres") (not $v.database.existingSecret) -}}
{{- fail "database.existingSecret: name the Secret that holds DATABASE_URL" -}}
{{- end -}}
{{- if and (eq $v.database.type "postgres") (not $v.secretKey.existingSecret) -}}
{{- fail "secretKey.existingSecret: with PostgreSQL every replica needs the same key" -}}
{{- end -}}
{{- if gt (int $v.replicas) 1 -}}
{{- if ne $v.database.type "postgres" -}}{{- fail "replicas: more than one needs database.type postgres" -}}{{- end -}}
{{- if eq $v.registry.backend "builtin" -}}{{- fail "replicas: the built-in registry lies on one server's disk; more than one needs registry.backend harbor or oci" -}}{{- end -}}
{{- if include "ground-control.persistent" . -}}{{- fail "replicas: one volume is one server's; leave persistence.enabled unset, for with PostgreSQL and a registry outside nothing is kept in it" -}}{{- end -}}
{{- end -}}
{{- if and (eq $v.registry.backend "harbor") (not (and $v.registry.harbor.url $v.registry.harbor.existingSecret)) -}}
{{- fail "registry.harbor: url and existingSecret are needed" -}}
{{- end -}}
{{- if eq $v.registry.backend "oci" -}}
{{- if not (and $v.registry.oci.url $v.registry.oci.existingSecret) -}}{{- fail "registry.oci: url and existingSecret are needed" -}}{{- end -}}
{{- if not $v.spiffe.enabled -}}{{- fail "registry.backend oci serves satellites with an SVID only: it needs spiffe.enabled" -}}{{- end -}}
{{- end -}}
{{- if not (or $v.tls.existingSecret $v.unsecure $v.spiffe.enabled) -}}
{{- fail "tls.existingSecret: name the certificate, or say unsecure=true where TLS ends in front of it" -}}
{{- end -}}
{{- if $v.spiffe.enabled -}}
{{- if not $v.webPublicUrl -}}{{- fail "webPublicUrl: with SPIFFE, say under which URL people reach the second listener" -}}{{- end -}}
{{- if eq (int $v.service.port) (int $v.service.webPort) -}}{{- fail "service.webPort: service.port is the same" -}}{{- end -}}
{{- if not $v.tls.existingSecret -}}{{- fail "tls.existingSecret: with SPIFFE the second listener needs a certificate" -}}{{- end -}}
{{- end -}}
{{- $labels := fromYaml (include "ground-control.labels" .) -}}
{{- range $name, $value := $v.podLabels -}}
{{- if hasKey $labels $name -}}{{- fail (printf "podLabels: %s is the chart's own" $name) -}}{{- end -}}
{{- end -}}
{{- /* One that is set twice: kubectl and Helm mix both up at the next upgrade. */}}
{{- $names := list -}}
{{- range fromYamlArray (include "ground-control.env" .) }}{{ $names = append $names .name }}{{ end -}}
{{- range $v.extraEnv -}}
{{- if has .name $names -}}{{- fail (printf "extraEnv: %s is set already, by another value of the chart or further up in extraEnv" .name) -}}{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
