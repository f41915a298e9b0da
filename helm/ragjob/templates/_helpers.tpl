{{/* The release's name, cut so that with a digest it stays within the 47 characters that KubeRay takes. */}}
{{- define "ragjob.name" -}}
{{- if gt (len .Release.Name) 37 -}}
{{- printf "%s-%s" (.Release.Name | trunc 30 | trimSuffix "-") (.Release.Name | sha256sum | trunc 6) -}}
{{- else -}}
{{- .Release.Name -}}
{{- end -}}
{{- end -}}

{{/* Name of the RayJob and its ConfigMap: it changes with all that decides what runs. */}}
{{- define "ragjob.jobName" -}}
{{- $rendered := printf "%s\n%s\n%s" (include "ragjob.spec" .) (toYaml .Values.config) .Values.rerun -}}
{{- printf "%s-%s" (include "ragjob.name" .) ($rendered | sha256sum | trunc 8) -}}
{{- end -}}

{{- define "ragjob.selector" -}}
app.kubernetes.io/name: ragjob
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ragjob.labels" -}}
{{ include "ragjob.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "ragjob.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "ragjob.name" .) -}}
{{- end -}}

{{- define "ragjob.chromaUrl" -}}
{{- dig "chroma" "url" "" .Values.config | default (printf "http://%s-chroma:8000" (include "ragjob.name" .)) -}}
{{- end -}}

{{/* Ports that head and workers call outside of the release. The API server's is one of two, as a rule. */}}
{{- define "ragjob.egressPorts" -}}
{{- $ports := .Values.networkPolicy.egressPorts -}}
{{- $api := dig "generate" "openai" "base_url" "" .Values.config -}}
{{- range list (dig "chroma" "url" "" .Values.config) (dig "s3" "endpoint_url" "" .Values.config) $api | compact -}}
{{- $url := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default (eq $url.scheme "https" | ternary 443 80)) -}}
{{- end -}}
{{- if include "ragjob.autoscaling" . -}}
{{- $ports = concat $ports (list 443 6443) -}}
{{- end -}}
{{- range $ports }}{{ int . }} {{ end -}}
{{- end -}}

{{/* "true" where Ray's autoscaler has something to do. */}}
{{- define "ragjob.autoscaling" -}}
{{- range .Values.workers }}{{ if lt (int .min) (int .max) }}true{{ break }}{{ end }}{{ end -}}
{{- end -}}

{{/* What the cluster may grow to, of `cpus`, `gpus` or nodes: call with (list "cpus" .Values.workers). */}}
{{- define "ragjob.total" -}}
{{- $total := 0 -}}
{{- $what := index . 0 -}}
{{- range index . 1 -}}
{{- $total = add $total (mul .max (eq $what "nodes" | ternary 1 (get . $what))) -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{/* What the security level `restricted` wants of every pod, and what none of ours needs. */}}
{{- define "ragjob.podSecurity" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where a pod may run, by its nodeSelector and tolerations: call with the values that have them. */}}
{{- define "ragjob.placement" -}}
{{- with .nodeSelector -}}
nodeSelector: {{ toJson . }}
{{ end -}}
{{- with .tolerations -}}
tolerations: {{ toJson . }}
{{- end -}}
{{- end -}}

{{- define "ragjob.container" -}}
image: {{ printf "%s:%s" .Values.image.repository .Values.image.tag | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}
