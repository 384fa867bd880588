{{/* The broker's settings: docs/settings.md. A name that the broker does not know would end it at its start. */}}

{{- define "token-broker.environment" -}}
{{- $tokens := .Values.callers.tokens -}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: TOKEN_BROKER_GRPC_ADDRESS, value: {{ include "token-broker.address" (dict "context" . "port" (include "token-broker.grpcPort" .)) | quote }}}
- {name: TOKEN_BROKER_HTTP_ADDRESS, value: {{ include "token-broker.address" (dict "context" . "port" (include "token-broker.httpPort" .)) | quote }}}
{{- if .Values.operations.enabled }}
- {name: TOKEN_BROKER_OPERATIONS_ADDRESS, value: {{ include "token-broker.address" (dict "context" . "port" (include "token-broker.operationsPort" .)) | quote }}}
{{- end }}
{{- if .Values.operations.console }}
- {name: TOKEN_BROKER_CONSOLE, value: "true"}
{{- end }}
- {name: TOKEN_BROKER_WORKERS, value: {{ include "token-broker.text" .Values.workers | quote }}}
- {name: TOKEN_BROKER_LAME_DUCK_SECONDS, value: {{ include "token-broker.text" .Values.shutdown.lameDuckSeconds | quote }}}
- {name: TOKEN_BROKER_DRAIN_SECONDS, value: {{ include "token-broker.text" .Values.shutdown.drainSeconds | quote }}}
- {name: TOKEN_BROKER_DATABASE_URL_FILE, value: /run/secrets/token-broker/database-url}
{{- if .Values.secrets.databaseDirectUrl.key }}
- {name: TOKEN_BROKER_DATABASE_DIRECT_URL_FILE, value: /run/secrets/token-broker/database-direct-url}
{{- end }}
- {name: TOKEN_BROKER_KEYSET_FILE, value: /run/secrets/token-broker/keyset.json}
{{- with .Values.keysetKmsUri }}
- {name: TOKEN_BROKER_KEYSET_KMS_URI, value: {{ . | quote }}}
{{- end }}
- {name: TOKEN_BROKER_APPS, value: {{ include "token-broker.apps" . | quote }}}
- {name: TOKEN_BROKER_TLS_CERTIFICATE_FILE, value: /run/tls/tls.crt}
- {name: TOKEN_BROKER_TLS_KEY_FILE, value: /run/tls/tls.key}
{{- if .Values.callers.certificates.enabled }}
- {name: TOKEN_BROKER_TLS_CLIENT_CA_FILE, value: /run/tls/callers-ca.crt}
{{- end }}
{{- if $tokens.enabled }}
- {name: TOKEN_BROKER_JWT_ISSUER, value: {{ $tokens.issuer | quote }}}
- {name: TOKEN_BROKER_JWT_AUDIENCE, value: {{ $tokens.audience | quote }}}
{{- with $tokens.algorithms }}
- {name: TOKEN_BROKER_JWT_ALGORITHMS, value: {{ join "," . | quote }}}
{{- end }}
{{- if $tokens.keysUrl }}
- {name: TOKEN_BROKER_JWT_KEYS, value: {{ $tokens.keysUrl | quote }}}
{{- else }}
- {name: TOKEN_BROKER_JWT_KEYS, value: "https://kubernetes.default.svc/openid/v1/jwks"}
- {name: TOKEN_BROKER_JWT_KEYS_TOKEN_FILE, value: /run/jwt-keys/token}
{{- end }}
{{- if or (not $tokens.keysUrl) $tokens.keysCaConfigMap }}
- {name: TOKEN_BROKER_JWT_KEYS_CA_FILE, value: /run/jwt-keys/ca.crt}
{{- end }}
{{- end }}
- {name: TOKEN_BROKER_POLICY_FILE, value: /etc/token-broker/policy.cedar}
{{- if or .Values.policy.groups .Values.policy.groupsKey }}
- {name: TOKEN_BROKER_POLICY_GROUPS_FILE, value: /etc/token-broker/groups.json}
{{- end }}
- {name: TOKEN_BROKER_AUDIT_LOG, value: {{ .Values.audit.log | quote }}}
{{- with .Values.audit.secondLog }}
- {name: TOKEN_BROKER_AUDIT_SECOND_LOG, value: {{ . | quote }}}
{{- end }}
{{- with .Values.audit.durability }}
- {name: TOKEN_BROKER_AUDIT_DURABILITY, value: {{ . | quote }}}
{{- end }}
- {name: TOKEN_BROKER_AUDIT_KEY_FILE, value: /run/secrets/token-broker/audit-key}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ include "token-broker.text" $value | quote }}}
{{- end }}
{{- with .Values.otlp.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: "k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME)"}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* TOKEN_BROKER_APPS: the secrets are files. */}}
{{- define "token-broker.apps" -}}
{{- $apps := list -}}
{{- range $index, $app := .Values.apps -}}
{{- $entry := dict "plugin_id" $app.pluginId "client_id" $app.clientId -}}
{{- $_ := set $entry "client_secret_file" (printf "/run/secrets/token-broker/client-secret-%d" $index) -}}
{{- if $app.previousClientSecret -}}
{{- $_ := set $entry "previous_client_secret_file" (printf "/run/secrets/token-broker/previous-client-secret-%d" $index) -}}
{{- end -}}
{{- $apps = append $apps $entry -}}
{{- end -}}
{{- toJson $apps -}}
{{- end }}
