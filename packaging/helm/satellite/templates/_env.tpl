{{/* What the chart tells the program. */}}
{{- define "satellite.env" -}}
{{- $name := include "satellite.fullname" . -}}
- name: CONFIG_DIR
  value: /var/lib/satellite/config
- name: REGISTRY_DATA_DIR
  value: /var/lib/satellite/registry
- name: LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
- name: JSON_LOGGING
  value: "true"
- name: SHUTDOWN_TIMEOUT
  value: {{ .Values.shutdownTimeout | quote }}
- name: LAN_LISTEN
  value: "0.0.0.0:8443"
{{- if .Values.lan.tls.existingSecret }}
- name: LAN_TLS_CERT_FILE
  value: /etc/satellite/tls/tls.crt
- name: LAN_TLS_KEY_FILE
  value: /etc/satellite/tls/tls.key
{{- else }}
- name: LAN_NAME
  value: {{ concat (list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace)) .Values.lan.names | join "," | quote }}
{{- end }}
{{- if .Values.lan.accounts.existingSecret }}
- name: LAN_ACCOUNTS_FILE
  value: /etc/satellite/accounts/accounts
{{- end }}
{{- if eq .Values.mode "site" }}
- name: SITE_TOKEN_FILE
  value: /etc/satellite/site/token
{{- end }}
{{- with .Values.groundControlUrl }}
- name: GROUND_CONTROL_URL
  value: {{ . | quote }}
{{- end }}
{{- if eq .Values.identity.type "joinToken" }}
- name: JOIN_TOKEN_FILE
  value: /etc/satellite/identity/join-token
- name: TRUST_BUNDLE_FILE
  value: /etc/satellite/identity/trust-bundle.pem
{{- else if eq .Values.identity.type "token" }}
- name: TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.identity.existingSecret }}
      key: token
{{- else if eq .Values.identity.type "spiffe" }}
- name: SPIFFE_ENABLED
  value: "true"
- name: SPIFFE_ENDPOINT_SOCKET
  value: unix:///run/spire/sockets/{{ .Values.identity.spiffe.socket }}
{{- with .Values.identity.spiffe.expectedServerId }}
- name: SPIFFE_EXPECTED_SERVER_ID
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- if .Values.ca.existingSecret }}
- name: TLS_CA_FILE
  value: /etc/satellite/ca/ca.crt
{{- end }}
{{- with .Values.platforms }}
- name: PLATFORMS
  value: {{ . | quote }}
{{- end }}
{{- end -}}
