{{/* What would fail on the cluster, late: refused here, with the value to change. */}}
{{- define "ragjob.check" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "release name %s: KubeRay wants one that begins with a letter and has no dots; take another" .Release.Name) -}}
{{- end -}}
{{- $uris := dict "index" (list "corpus" "index") "load" (list "index") "answer" (list "prompts" "index" "output") -}}
{{- range get $uris .Values.command | default (list "corpus" "prompts" "index" "output") -}}
{{- if not (dig . "uri" "" $.Values.config) -}}
{{- fail (printf "config.%s.uri: required by `%s`; set it, e.g. to s3://bucket/%s" . $.Values.command .) -}}
{{- end -}}
{{- end -}}
{{- if dig "chroma" "path" "" .Values.config -}}
{{- fail "config.chroma.path: for a server on the job's own machine; leave it out, the chart runs a Chroma server" -}}
{{- end -}}
{{- range .Values.workers -}}
{{- if or (gt (int .min) (int .max)) (gt (int .replicas) (int .max)) -}}
{{- fail (printf "workers: group %s has a min or replicas above its max, %v; raise max" .name .max) -}}
{{- end -}}
{{- end -}}
{{- $flows := dict "load" (list) "index" (list "embed") "answer" (list "embed" "retrieve" "generate") -}}
{{- range $flow := eq .Values.command "run" | ternary (list "index" "answer") (list .Values.command) -}}
{{- include "ragjob.checkFlow" (list $ $flow (get $flows $flow)) -}}
{{- end -}}
{{- end -}}

{{/* The pools of a flow against all workers at their most: call with (list . FLOW SECTIONS). */}}
{{- define "ragjob.checkFlow" -}}
{{- $root := index . 0 -}}
{{- $flow := index . 1 -}}
{{- $cpus := 0.4 -}}{{/* what the job keeps for reads and writes */}}
{{- $gpus := 0.0 -}}
{{- range $section := index . 2 -}}
{{- $pool := get (get $root.Values.config $section) "pool" -}}
{{- if and (gt (float64 $pool.num_gpus) 1.0) (ne (float64 $pool.num_gpus) (floor $pool.num_gpus)) -}}
{{- fail (printf "config.%s.pool.num_gpus: %v can't be placed: an actor takes a share of one GPU, or whole ones" $section $pool.num_gpus) -}}
{{- end -}}
{{- $cpus = addf $cpus (mulf $pool.max $pool.num_cpus) -}}
{{- $gpus = addf $gpus (mulf $pool.max $pool.num_gpus) -}}
{{- end -}}
{{- range $what, $need := dict "cpus" $cpus "gpus" $gpus -}}
{{- $have := include "ragjob.total" (list $what $root.Values.workers) -}}
{{- if gt $need (float64 $have) -}}
{{- fail (printf "workers: the pools of `%s` take %v %s at their most, all groups together have %s; raise a group's max or %s, or lower a pool's max or num_%s in config" $flow $need $what $have $what $what) -}}
{{- end -}}
{{- end -}}
{{- range $section := index . 2 -}}
{{- $pool := get (get $root.Values.config $section) "pool" -}}
{{- $room := false -}}
{{- range $root.Values.workers -}}
{{- if and (ge (float64 .cpus) (float64 $pool.num_cpus)) (ge (float64 .gpus) (float64 $pool.num_gpus)) -}}
{{- $room = true -}}
{{- end -}}
{{- end -}}
{{- if not $room -}}
{{- fail (printf "config.%s.pool: no worker has the %v CPUs and %v GPUs of one actor; raise a group's cpus or gpus, or lower num_cpus or num_gpus" $section $pool.num_cpus $pool.num_gpus) -}}
{{- end -}}
{{- end -}}
{{- end -}}
