{{- define "lossd.name" -}}
{{- $name := ternary .Release.Name (printf "%s-lossd" .Release.Name) (contains "lossd" .Release.Name) -}}
{{- .Values.fullnameOverride | default $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "lossd.selector" -}}
app.kubernetes.io/name: lossd
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{/* The labels of an object: of the context, and of the component that it belongs to. */}}
{{- define "lossd.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: lossd
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "lossd.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* A setting as text: YAML's numbers are floats, and a large one must not become 1.073741824e+09. */}}
{{- define "lossd.text" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* A quantity as a number, of bytes or of processors. */}}
{{- define "lossd.quantity" -}}
{{- $text := include "lossd.text" . -}}
{{- $number := regexFind "^[0-9.]+([eE][-+]?[0-9]+)?" $text -}}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf $number (get $units (trimPrefix $number $text)) -}}
{{- end }}

{{- define "lossd.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001 # reads the Secrets' files
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "lossd.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What the schema cannot say in plain words. */}}
{{- define "lossd.check" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if not (or .Values.teams.secret .Values.allowOpen) -}}
{{- fail "teams.secret is empty, so whoever can connect could use the server: name a Secret with teams.toml, or set allowOpen to true to mean that" -}}
{{- end -}}
{{- range .Values.env -}}
{{- if hasPrefix "LOSSD_" .name -}}
{{- fail (printf "env: %s is a setting: it belongs to settings, or has a value of its own" .name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.quota.divide .Values.quota.storeSecret -}}
{{- fail "quota.divide and quota.storeSecret are both set, and the limits would be divided twice: unset one of them" -}}
{{- end -}}
{{- if and .Values.quota.divide (ne $scaling.kind "none") -}}
{{- fail "quota.divide needs to know how many pods there are, and autoscaling changes that: name a quota.storeSecret, or set autoscaling.kind to none" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.egress) (or .Values.quota.storeSecret .Values.usage.databaseSecret) -}}
{{- fail "networkPolicy.egress is empty, so pods could not reach the quota store or the database: add rules for them and for DNS" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.monitoring) .Values.monitoring.serviceMonitor.enabled -}}
{{- fail "networkPolicy.monitoring is empty, so Prometheus could not reach the admin listener, which monitoring.serviceMonitor has it ask: name Prometheus's pods or namespace there" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty, so no gateway would take the route: name yours, as in httpRoute.parentRefs[0].name=my-gateway" -}}
{{- end -}}
{{- $rolling := .Values.rollingUpdate -}}
{{- if and (regexMatch "^0+%?$" (include "lossd.text" $rolling.maxUnavailable)) (regexMatch "^0+%?$" (include "lossd.text" $rolling.maxSurge)) -}}
{{- fail "rollingUpdate.maxUnavailable and rollingUpdate.maxSurge are both 0, so no pod could be replaced: raise one of them" -}}
{{- end -}}
{{- $limits := (.Values.resources).limits | default dict -}}
{{- range $name, $requested := (.Values.resources).requests -}}
{{- $limit := get $limits $name -}}
{{- if and (hasKey $limits $name) (lt (float64 (include "lossd.quantity" $limit)) (float64 (include "lossd.quantity" $requested))) -}}
{{- fail (printf "resources.limits.%s (%s) is less than resources.requests.%s (%s): raise it, or lower the other" $name (include "lossd.text" $limit) $name (include "lossd.text" $requested)) -}}
{{- end -}}
{{- end -}}
{{- $arena := (.Values.settings).LOSSD_ARENA_BYTES | default 0 -}}
{{- if and $limits.memory (gt (float64 $arena) (float64 (include "lossd.quantity" $limits.memory))) -}}
{{- fail (printf "settings.LOSSD_ARENA_BYTES (%s) is more than resources.limits.memory (%s), which holds the arena: lower it, or raise the limit to 1.5 times the arena, 1 GiB for the front end and as much for the worker" (include "lossd.text" $arena) (include "lossd.text" $limits.memory)) -}}
{{- end -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas (%d) is more than autoscaling.maxReplicas (%d): lower it, or raise the other" (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and (eq $scaling.kind "keda") (not $scaling.prometheus) -}}
{{- fail "autoscaling.kind is keda, which asks Prometheus: name its address in autoscaling.prometheus" -}}
{{- end -}}
{{- if and (eq $scaling.kind "keda") (not .Values.monitoring.serviceMonitor.enabled) -}}
{{- fail "autoscaling.kind is keda, and its figures have the labels that a ServiceMonitor gives them: set monitoring.serviceMonitor.enabled to true" -}}
{{- end -}}
{{- if and (eq $scaling.kind "hpa") (not (((.Values.resources).requests).cpu)) -}}
{{- fail "autoscaling.kind is hpa, which compares with resources.requests.cpu: set that" -}}
{{- end -}}
{{- if and (eq $scaling.kind "hpa") (gt (int .Values.gpus) 0) -}}
{{- fail "autoscaling.kind is hpa, which counts processor time, and pods compute on GPUs: take keda" -}}
{{- end -}}
{{- end }}
