{{/*
What these values can't be, all of it at once, one sentence each. Most of it the broker would refuse at its start; here
it is known before anything is replaced. What a single value may be stands in values.schema.json.
*/}}

{{- define "token-broker.refuse" -}}
{{- $problems := concat
      (include "token-broker.wrongSecrets" . | fromJsonArray)
      (include "token-broker.wrongCallers" . | fromJsonArray)
      (include "token-broker.wrongRecord" . | fromJsonArray)
      (include "token-broker.wrongSurroundings" . | fromJsonArray) -}}
{{- if $problems -}}
{{- fail (printf "\n\nthese values can't be:\n  %s\n" (join "\n  " $problems)) -}}
{{- end -}}
{{- end }}

{{- define "token-broker.wrongSecrets" -}}
{{- $problems := list -}}
{{- with .Values -}}
{{- if not .image.repository -}}
{{- $problems = append $problems "image.repository must name the image in your registry" -}}
{{- end -}}
{{- if not .apps -}}
{{- $problems = append $problems "apps must name at least one Envoy app: its pluginId and clientId" -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .apps -}}
{{- if hasKey $seen .pluginId -}}
{{- $problems = append $problems (printf "apps names the pluginId %s twice" .pluginId) -}}
{{- end -}}
{{- $_ := set $seen .pluginId true -}}
{{- if .previousClientSecret -}}
{{- $own := default dict .clientSecret -}}
{{- $key := default (printf "client-secret-%s" .pluginId) $own.key -}}
{{- if and (eq $key .previousClientSecret.key) (eq (default "" $own.existingSecret) (default "" .previousClientSecret.existingSecret)) -}}
{{- $problems = append $problems (printf "the previousClientSecret of app %s must be another than the secret that is in use" .pluginId) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not .secrets.existingSecret -}}
{{- $unnamed := list -}}
{{- range $name := list "databaseUrl" "keyset" "auditKey" -}}
{{- if not (index $.Values.secrets $name).existingSecret -}}
{{- $unnamed = append $unnamed (printf "secrets.%s" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .secrets.databaseDirectUrl.key (not .secrets.databaseDirectUrl.existingSecret) -}}
{{- $unnamed = append $unnamed "secrets.databaseDirectUrl" -}}
{{- end -}}
{{- range .apps -}}
{{- if not (default dict .clientSecret).existingSecret -}}
{{- $unnamed = append $unnamed (printf "the clientSecret of app %s" .pluginId) -}}
{{- end -}}
{{- if and .previousClientSecret (not .previousClientSecret.existingSecret) -}}
{{- $unnamed = append $unnamed (printf "the previousClientSecret of app %s" .pluginId) -}}
{{- end -}}
{{- end -}}
{{- if $unnamed -}}
{{- $problems = append $problems (printf "secrets.existingSecret must name the Secret that holds %s; or let each name its own" (join ", " $unnamed)) -}}
{{- end -}}
{{- end -}}
{{- if and .migration.enabled (not .migration.existingSecret) -}}
{{- $problems = append $problems "migration.existingSecret must name the Secret with the schema owner's database URL; or set migration.enabled to false and run `token-broker migrate` yourself" -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "token-broker.wrongCallers" -}}
{{- $problems := list -}}
{{- with .Values -}}
{{- if not .tls.existingSecret -}}
{{- $problems = append $problems "tls.existingSecret must name the Secret with the gRPC port's certificate: tokens don't travel in the clear" -}}
{{- end -}}
{{- if not (or .callers.certificates.enabled .callers.tokens.enabled) -}}
{{- $problems = append $problems "callers.certificates or callers.tokens must be enabled, so that callers prove who they are" -}}
{{- end -}}
{{- if and .callers.tokens.enabled (not (and .callers.tokens.issuer .callers.tokens.audience)) -}}
{{- $problems = append $problems "callers.tokens.issuer and callers.tokens.audience must be set where callers show tokens" -}}
{{- end -}}
{{- if and .callers.tokens.keysCaConfigMap (not .callers.tokens.keysUrl) -}}
{{- $problems = append $problems "callers.tokens.keysCaConfigMap belongs to callers.tokens.keysUrl, which is not set" -}}
{{- end -}}
{{- if not (or .policy.existingConfigMap .policy.cedar) -}}
{{- $problems = append $problems "policy.existingConfigMap or policy.cedar must say which caller may do what: without a policy nobody is served" -}}
{{- else if and .policy.existingConfigMap (or .policy.cedar .policy.groups) -}}
{{- $problems = append $problems "policy.existingConfigMap and policy.cedar or policy.groups say the policy in two ways; keep one" -}}
{{- end -}}
{{- if and .policy.groupsKey (not .policy.existingConfigMap) -}}
{{- $problems = append $problems "policy.groupsKey is a key of policy.existingConfigMap, which is not set" -}}
{{- end -}}
{{- if and .networkPolicy.enabled (not .networkPolicy.callers) -}}
{{- $problems = append $problems "networkPolicy.callers must name who may reach the gRPC port; or set networkPolicy.enabled to false" -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "token-broker.wrongRecord" -}}
{{- $problems := list -}}
{{- with .Values.audit -}}
{{- if not .log -}}
{{- $problems = append $problems "audit.log must say where it goes on record what callers got: `-` for stdout, or a file; without a record nobody is served" -}}
{{- end -}}
{{- if and .secondLog (eq .secondLog .log) -}}
{{- $problems = append $problems "audit.secondLog must be another place than audit.log: each line would stand there twice" -}}
{{- end -}}
{{- $many := or (gt (int $.Values.replicas) 1) $.Values.autoscaling.enabled -}}
{{- range $name, $place := dict "audit.log" .log "audit.secondLog" .secondLog -}}
{{- if and (eq "-" (default "" $place)) (gt (int $.Values.workers) 1) -}}
{{- $problems = append $problems (printf "%s must be a file where workers is more than 1: in a pipe, lines of several processes tear each other" $name) -}}
{{- end -}}
{{- if hasPrefix "/" (default "" $place) -}}
{{- if not $.Values.audit.volume -}}
{{- $problems = append $problems (printf "audit.volume must be set where %s is a file: nothing else in a pod can be written to" $name) -}}
{{- end -}}
{{- if and $many (not (contains "$(POD_NAME)" $place)) -}}
{{- $problems = append $problems (printf "%s must contain $(POD_NAME): replicas need files of their own" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "token-broker.wrongSurroundings" -}}
{{- $problems := list -}}
{{- with .Values -}}
{{- if and .ingress.enabled (not .ingress.host) -}}
{{- $problems = append $problems "ingress.host must be the name that Envoy sends its webhooks to" -}}
{{- end -}}
{{- if and .operations.console (not .operations.enabled) -}}
{{- $problems = append $problems "operations.console needs operations.enabled" -}}
{{- end -}}
{{- if and .monitoring.podMonitor.enabled (not .operations.enabled) -}}
{{- $problems = append $problems "monitoring.podMonitor needs operations.enabled: there is nothing to scrape" -}}
{{- end -}}
{{- if and .monitoring.podMonitor.enabled .operations.console (not .monitoring.podMonitor.tlsConfig) -}}
{{- $problems = append $problems "monitoring.podMonitor.tlsConfig must say how the port is trusted where operations.console is on: {ca: …, serverName: …}" -}}
{{- end -}}
{{- if .autoscaling.enabled -}}
{{- if gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas) -}}
{{- $problems = append $problems "autoscaling.minReplicas must not be more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if not (dig "requests" "cpu" "" .resources) -}}
{{- $problems = append $problems "resources.requests.cpu must be set where autoscaling is enabled: its percentage is of that" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}
