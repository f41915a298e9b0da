{{/* The release's name, cut so that with a digest it stays within the 47 characters that KubeRay takes. */}}
{{- define "ragjob.name" -}}
{{- if gt (len .Release.Name) 37 -}}
{{- printf "%s-%s" (.Release.Name | trunc 30 | trimSuffix "-") (.Release.Name | sha256sum | trunc 6) -}}
{{- else -}}
{{- .Release.Name -}}
{{- end -}}
{{- end -}}

{{/*
Name of the RayJob and its ConfigMap: it changes with what decides what runs, and on what. Whatever else changes, such
as deadlines or the submitter's place, leaves a running job alone.
*/}}
{{- define "ragjob.jobName" -}}
{{- $decides := pick .Values "command" "config" "secrets" "serviceAccount" "head" "workers" "scratch" -}}
{{- $_ := set $decides "image" (pick .Values.image "repository" "tag") -}}
{{- $_ := set $decides "rerun" (toString .Values.rerun) -}}
{{- printf "%s-%s" (include "ragjob.name" .) (toJson $decides | sha256sum | trunc 8) -}}
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

{{/* Where head and workers may call these ports. Not every network plugin counts pods among an ipBlock's addresses. */}}
{{- define "ragjob.egressTo" -}}
{{- with .Values.networkPolicy.egressTo -}}
{{- toYaml . -}}
{{- else -}}
- ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}
- ipBlock: {cidr: "::/0", except: ["fe80::/10", "fd00:ec2::/32"]}
- namespaceSelector: {}
{{- end -}}
{{- end -}}

{{- define "ragjob.egressToDns" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* "true" where Ray's autoscaler has something to do. */}}
{{- define "ragjob.autoscaling" -}}
{{- $scales := .Values.job.planFirst -}}
{{- range .Values.workers }}{{ $scales = or $scales (lt (int .min) (int .max)) }}{{ end -}}
{{- if $scales }}true{{ end -}}
{{- end -}}

{{/* The groups of workers as the job's `cluster.groups`, in JSON. */}}
{{- define "ragjob.groups" -}}
{{- $groups := list -}}
{{- range .Values.workers -}}
{{- $memory := dig "limits" "memory" .memory (.resources | default dict) -}}
{{- $group := dict "name" .name "cpus" .cpus "gpus" (.gpus | default 0) "memory_gb" (include "ragjob.gigabytes" $memory | float64) "min" .min "max" .max -}}
{{- with .gpuMemory -}}
{{- $_ := set $group "gpu_gb" (include "ragjob.gigabytes" . | float64) -}}
{{- end -}}
{{- $groups = append $groups $group -}}
{{- end -}}
{{- toJson $groups -}}
{{- end -}}

{{/* A quantity of Kubernetes, as 6Gi or a number of bytes, in units of 10^9 bytes. */}}
{{- define "ragjob.gigabytes" -}}
{{- if kindIs "string" . -}}
{{- $units := dict "" 1e-9 "k" 1e-6 "M" 1e-3 "G" 1.0 "T" 1e3 "P" 1e6 "Ki" 1.024e-6 "Mi" 1.048576e-3 "Gi" 1.073741824 "Ti" 1099.511627776 "Pi" 1125899.906842624 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- round (mulf $number (get $units (trimPrefix $number .))) 3 -}}
{{- else -}}
{{- round (divf . 1e9) 3 -}}
{{- end -}}
{{- end -}}

{{/*
Variables of a Ray pod: where they name a proxy, the chart's own Chroma is reached past it. Programs read NO_PROXY by
either spelling. Call with (list . ENV).
*/}}
{{- define "ragjob.env" -}}
{{- $given := index . 1 | default list -}}
{{- $proxied := false -}}
{{- $env := list -}}
{{- $past := list -}}
{{- $unknown := "" -}}
{{- range $given -}}
{{- $proxied = or $proxied (regexMatch "(?i)^(http|https|all)_proxy$" .name) -}}
{{- if eq (lower .name) "no_proxy" -}}
{{- $past = append $past .value -}}
{{- $unknown = hasKey . "valueFrom" | ternary .name $unknown -}}
{{- else -}}
{{- $env = append $env . -}}
{{- end -}}
{{- end -}}
{{- if or (not $proxied) (dig "chroma" "url" "" (index . 0).Values.config) -}}
{{- toYaml $given -}}
{{- else if $unknown -}}
{{- fail (printf "%s: write its value out, the chart adds its own Chroma to it" $unknown) -}}
{{- else -}}
{{- $past = append $past (printf "%s-chroma" (include "ragjob.name" (index . 0))) | compact | uniq | join "," -}}
{{- concat $env (list (dict "name" "NO_PROXY" "value" $past) (dict "name" "no_proxy" "value" $past)) | toYaml -}}
{{- end -}}
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
