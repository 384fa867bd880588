{{/* What all pods have in common: no root, nothing to write to, no rights. 65532 is the image's user. */}}

{{- define "token-broker.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
# Mounted secrets belong to this group, and the audit's volume is made writable for it.
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "token-broker.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The ports' numbers stand here and nowhere else. */}}
{{- define "token-broker.grpcPort" -}}50051{{- end }}
{{- define "token-broker.httpPort" -}}8080{{- end }}
{{- define "token-broker.operationsPort" -}}9090{{- end }}

{{/* A worker's operations port by the worker's number: `operations` is the first one's. */}}
{{- define "token-broker.operationsPortName" -}}
{{- if . }}operations-{{ . }}{{ else }}operations{{ end -}}
{{- end }}

{{- define "token-broker.address" -}}
{{- $host := .context.Values.bindHost -}}
{{- if contains ":" $host }}[{{ $host }}]{{ else }}{{ $host }}{{ end }}:{{ .port -}}
{{- end }}

{{- define "token-broker.usesClusterKeys" -}}
{{- if and .Values.callers.tokens.enabled (not .Values.callers.tokens.keysUrl) }}true{{ end -}}
{{- end }}

{{/* What the broker may need, when its drain is over, to close what is open and to send its last spans. */}}
{{- define "token-broker.closingSeconds" -}}30{{- end }}

{{- define "token-broker.gracePeriodSeconds" -}}
{{- with .Values.shutdown -}}
{{- ceil (addf .preStopSeconds .lameDuckSeconds .drainSeconds (include "token-broker.closingSeconds" $)) | int64 -}}
{{- end -}}
{{- end }}

{{/* Text of a value. Helm reads whole numbers as floats, and would write a million as 1e+06. */}}
{{- define "token-broker.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}
