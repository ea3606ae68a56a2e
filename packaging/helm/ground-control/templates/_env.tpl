{{/* What the chart tells the program. */}}
{{- define "ground-control.env" -}}
- name: LISTEN
  value: "0.0.0.0:8443"
- name: ADMIN_LISTEN
  value: "0.0.0.0:9090"
- name: DATA_DIR
  value: /var/lib/ground-control
- name: PUBLIC_REGISTRY_URL
  value: {{ .Values.publicUrl | quote }}
- name: LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
- name: JSON_LOGGING
  value: "true"
- name: SHUTDOWN_TIMEOUT
  value: {{ .Values.shutdownTimeout | quote }}
{{- if .Values.unsecure }}
- name: USE_UNSECURE
  value: "true"
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: TLS_CERT_FILE
  value: /etc/ground-control/tls/tls.crt
- name: TLS_KEY_FILE
  value: /etc/ground-control/tls/tls.key
{{- end }}
{{- if .Values.admin.existingSecret }}
- name: ADMIN_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.admin.existingSecret }}
      key: {{ .Values.admin.key }}
{{- end }}
{{- if eq .Values.database.type "postgres" }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.key }}
{{- end }}
{{- if .Values.secretKey.existingSecret }}
- name: SECRET_KEY_FILE
  value: /etc/ground-control/key/{{ .Values.secretKey.key }}
{{- end }}
- name: REGISTRY_BACKEND
  value: {{ .Values.registry.backend }}
{{- if eq .Values.registry.backend "harbor" }}
- name: HARBOR_URL
  value: {{ .Values.registry.harbor.url | quote }}
- name: HARBOR_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ .Values.registry.harbor.existingSecret }}
      key: username
- name: HARBOR_PASSWORD_FILE
  value: /etc/ground-control/registry/password
{{- with .Values.registry.harbor.webhookUrl }}
- name: HARBOR_WEBHOOK_URL
  value: {{ . | quote }}
{{- end }}
{{- if .Values.registryCa.existingSecret }}
- name: HARBOR_CA_FILE
  value: /etc/ground-control/registry-ca/ca.crt
{{- end }}
{{- else if eq .Values.registry.backend "oci" }}
- name: OCI_REGISTRY_URL
  value: {{ .Values.registry.oci.url | quote }}
{{- range list "push" "pull" }}
- name: OCI_{{ upper . }}_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.registry.oci.existingSecret }}
      key: {{ . }}-username
- name: OCI_{{ upper . }}_PASSWORD_FILE
  value: /etc/ground-control/registry/{{ . }}-password
{{- end }}
{{- if .Values.registryCa.existingSecret }}
- name: OCI_CA_FILE
  value: /etc/ground-control/registry-ca/ca.crt
{{- end }}
{{- end }}
{{- if .Values.spiffe.enabled }}
- name: SPIFFE_SERVER_ENABLED
  value: "true"
- name: SPIFFE_TRUST_DOMAIN
  value: {{ .Values.spiffe.trustDomain | quote }}
- name: SPIFFE_PROVIDER
  value: {{ .Values.spiffe.provider }}
- name: AUTO_REGISTER
  value: {{ .Values.spiffe.autoRegister }}
- name: WEB_LISTEN
  value: "0.0.0.0:8080"
- name: WEB_PUBLIC_URL
  value: {{ .Values.webPublicUrl | quote }}
{{- if eq .Values.spiffe.provider "sidecar" }}
- name: SPIFFE_ENDPOINT_SOCKET
  value: unix:///run/spire/sockets/{{ .Values.spiffe.workloadApi.socket }}
{{- end }}
{{- with .Values.spiffe.spireServer.address }}
- name: SPIRE_SERVER_ADDRESS
  value: {{ . | quote }}
- name: SPIRE_SERVER_PORT
  value: {{ $.Values.spiffe.spireServer.port | quote }}
{{- end }}
{{- end }}
{{- end -}}
