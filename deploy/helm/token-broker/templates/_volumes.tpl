{{/* The files behind the settings: _environment.tpl has their paths. */}}

{{- define "token-broker.volumeMounts" -}}
- {name: secrets, mountPath: /run/secrets/token-broker, readOnly: true}
# Whole folders: a file that is mounted by itself never changes.
- {name: tls, mountPath: /run/tls, readOnly: true}
- {name: policy, mountPath: /etc/token-broker, readOnly: true}
{{- if .Values.audit.volume }}
- {name: audit, mountPath: /var/log/token-broker}
{{- end }}
{{- if or (include "token-broker.usesClusterKeys" .) (and .Values.callers.tokens.enabled .Values.callers.tokens.keysCaConfigMap) }}
- {name: jwt-keys, mountPath: /run/jwt-keys, readOnly: true}
{{- end }}
{{- if .Values.serviceAccount.projectedTokens }}
- {name: service-account, mountPath: /run/service-account, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "token-broker.volumes" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- include "token-broker.secretSource" (dict "context" . "from" .Values.secrets.databaseUrl "path" "database-url") | nindent 6 }}
      {{- if .Values.secrets.databaseDirectUrl.key }}
      {{- include "token-broker.secretSource" (dict "context" . "from" .Values.secrets.databaseDirectUrl "path" "database-direct-url") | nindent 6 }}
      {{- end }}
      {{- include "token-broker.secretSource" (dict "context" . "from" .Values.secrets.keyset "path" "keyset.json") | nindent 6 }}
      {{- include "token-broker.secretSource" (dict "context" . "from" .Values.secrets.auditKey "path" "audit-key") | nindent 6 }}
      {{- range $index, $app := .Values.apps }}
      {{- $named := default dict $app.clientSecret }}
      {{- $from := dict "existingSecret" $named.existingSecret "key" (default (printf "client-secret-%s" $app.pluginId) $named.key) }}
      {{- include "token-broker.secretSource" (dict "context" $ "from" $from "path" (printf "client-secret-%d" $index)) | nindent 6 }}
      {{- with $app.previousClientSecret }}
      {{- include "token-broker.secretSource" (dict "context" $ "from" . "path" (printf "previous-client-secret-%d" $index)) | nindent 6 }}
      {{- end }}
      {{- end }}
- name: tls
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .Values.tls.existingSecret }}
          items:
            - {key: {{ .Values.tls.certificateKey }}, path: tls.crt}
            - {key: {{ .Values.tls.privateKeyKey }}, path: tls.key}
      {{- with .Values.callers.certificates }}
      {{- if .enabled }}
      - {{ if and .caConfigMap (not .caSecret) }}configMap{{ else }}secret{{ end }}:
          name: {{ coalesce .caSecret .caConfigMap $.Values.tls.existingSecret }}
          items: [{key: {{ .caKey }}, path: callers-ca.crt}]
      {{- end }}
      {{- end }}
- name: policy
  configMap:
    name: {{ include "token-broker.policyConfigMap" . }}
    items:
      - {key: {{ .Values.policy.key }}, path: policy.cedar}
      {{- if .Values.policy.groupsKey }}
      - {key: {{ .Values.policy.groupsKey }}, path: groups.json}
      {{- else if .Values.policy.groups }}
      - {key: groups.json, path: groups.json}
      {{- end }}
{{- with .Values.audit.volume }}
- name: audit
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if include "token-broker.usesClusterKeys" . }}
# The API server gives its keys to whoever shows a token of the cluster. This is the only one that the pod has.
- name: jwt-keys
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
{{- else if and .Values.callers.tokens.enabled .Values.callers.tokens.keysCaConfigMap }}
- name: jwt-keys
  configMap:
    name: {{ .Values.callers.tokens.keysCaConfigMap }}
    items: [{key: {{ .Values.callers.tokens.keysCaKey }}, path: ca.crt}]
{{- end }}
{{- with .Values.serviceAccount.projectedTokens }}
- name: service-account
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - serviceAccountToken: {audience: {{ .audience | quote }}, path: {{ .path | quote }}, expirationSeconds: 3600}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "token-broker.secretSource" -}}
- secret:
    name: {{ default .context.Values.secrets.existingSecret .from.existingSecret }}
    items: [{key: {{ .from.key | quote }}, path: {{ .path }}}]
{{- end }}
