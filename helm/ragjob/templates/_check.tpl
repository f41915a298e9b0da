{{/* What would fail on the cluster, late: refused here, with the value to change. */}}
{{- define "ragjob.check" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "release name %s: KubeRay needs one that begins with a letter and has no dots; choose another" .Release.Name) -}}
{{- end -}}
{{- $uris := dict "index" (list "corpus" "index") "load" (list "index") "answer" (list "prompts" "index" "output") -}}
{{- range get $uris .Values.command | default (list "corpus" "prompts" "index" "output") -}}
{{- if not (dig . "uri" "" $.Values.config) -}}
{{- fail (printf "config.%s.uri: required by `%s`; set it, e.g. to s3://bucket/%s" . $.Values.command .) -}}
{{- end -}}
{{- end -}}
{{- if dig "chroma" "path" "" .Values.config -}}
{{- fail "config.chroma.path: for a server on the job's own machine; leave it out, since the chart runs a Chroma server" -}}
{{- end -}}
{{- if and .Values.config.cluster (not (dig "cluster" "groups" list .Values.config)) -}}
{{- fail "config.cluster: the chart describes the workers to the job; leave it out, and set a group's gpuMemory for the memory of its GPUs" -}}
{{- end -}}
{{- range $section := list "embed" "retrieve" "rerank" "generate" -}}
{{- $pool := dig $section "pool" dict $.Values.config | default dict -}}
{{- if lt (int (dig "max" 1 $pool)) (int (dig "min" 1 $pool)) -}}
{{- fail (printf "config.%s.pool: min %v is above max %v; raise max" $section $pool.min (dig "max" 1 $pool)) -}}
{{- end -}}
{{- end -}}
{{- $engine := dig "generate" "engine" "" .Values.config -}}
{{- $answers := has .Values.command (list "run" "answer") -}}
{{- if and $answers (eq $engine "openai") (not (dig "generate" "openai" "base_url" "" .Values.config)) -}}
{{- fail "config.generate.openai.base_url: required by engine openai; set it, e.g. to http://HOST:8000/v1" -}}
{{- end -}}
{{- if and $answers (eq $engine "vllm") (hasSuffix "-cpu" .Values.image.tag) -}}
{{- fail (printf "image.tag: %s has no vLLM, which config.generate.engine needs; use the image that `make image TARGET=gpu` builds" .Values.image.tag) -}}
{{- end -}}
{{- if and (dig "s3" "kms_key_id" "" .Values.config) (ne (dig "s3" "sse" "" .Values.config | default "") "aws:kms") -}}
{{- fail "config.s3.kms_key_id: only used when config.s3.sse is aws:kms; set that too, or leave the key out" -}}
{{- end -}}
{{- include "ragjob.checkAddresses" (list "config" .Values.config) -}}
{{- include "ragjob.checkWorkers" . -}}
{{- range prepend .Values.workers .Values.head -}}
{{- include "ragjob.checkVolumes" (list (.name | default "head") .) -}}
{{- range .env -}}
{{- include "ragjob.checkAddresses" (list (printf "env %s" .name) .value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whoever may read the ConfigMap or the pods would see credentials in an address: call with (list PATH VALUE). */}}
{{- define "ragjob.checkAddresses" -}}
{{- $path := index . 0 -}}
{{- $value := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- range $key, $child := $value -}}
{{- include "ragjob.checkAddresses" (list (printf "%s.%s" $path $key) $child) -}}
{{- end -}}
{{- else if kindIs "slice" $value -}}
{{- range $child := $value -}}
{{- include "ragjob.checkAddresses" (list $path $child) -}}
{{- end -}}
{{- else if and (kindIs "string" $value) (regexMatch "^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*@" $value) -}}
{{- fail (printf "%s: an address contains a user name or password; leave them out and keep them in a Secret" $path) -}}
{{- end -}}
{{- end -}}

{{- define "ragjob.checkWorkers" -}}
{{- $used := 0.0 -}}
{{- range list "embed" "rerank" "generate" -}}
{{- $used = addf $used (dig . "pool" "num_gpus" 0 $.Values.config | default 0) -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.workers -}}
{{- if has .name $names -}}
{{- fail (printf "workers: two groups are named %s; give each its own name" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- if gt (int .min) (int .max) -}}
{{- fail (printf "workers: group %s has a min above its max, %v; raise max" .name .max) -}}
{{- end -}}
{{- if and .gpus (not $used) -}}
{{- fail (printf "workers: group %s has GPUs that no pool uses; set num_gpus of config.embed.pool, config.rerank.pool or config.generate.pool, or leave gpus out" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Volumes and mounts of a pod against each other and ours: call with (list NAME GROUP). */}}
{{- define "ragjob.checkVolumes" -}}
{{- $where := index . 0 -}}
{{- with index . 1 -}}
{{- $names := list "settings" -}}
{{- range .volumes -}}
{{- if has .name $names -}}
{{- fail (printf "%s: a volume named %s already exists; give yours another name" $where .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $paths := list "/etc/ragjob" -}}
{{- range .volumeMounts -}}
{{- $path := clean .mountPath -}}
{{- if has $path $paths -}}
{{- fail (printf "%s: something is mounted at %s already; mount yours elsewhere" $where $path) -}}
{{- end -}}
{{- $paths = append $paths $path -}}
{{- if not (has .name (concat $names (list "tmp" "cache"))) -}}
{{- fail (printf "%s: there is no volume %s to mount at %s; add it to volumes" $where .name $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
