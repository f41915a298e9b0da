{{/* The RayJob's spec. */}}
{{- define "ragjob.spec" -}}
entrypoint: ragjob {{ .Values.command }} --config /etc/ragjob/job.yaml
submissionMode: K8sJobMode
shutdownAfterJobFinishes: true
{{- with .Values.job }}
backoffLimit: {{ .backoffLimit }}
preRunningDeadlineSeconds: {{ .preRunningDeadlineSeconds }}
ttlSecondsAfterFinished: {{ .ttlSecondsAfterFinished }}
{{- with .activeDeadlineSeconds }}
activeDeadlineSeconds: {{ . }}
{{- end }}
{{- end }}
submitterPodTemplate:
  metadata:
    labels:
      {{- include "ragjob.selector" . | nindent 6 }}
      app.kubernetes.io/component: submitter
  spec:
    restartPolicy: Never
    serviceAccountName: {{ include "ragjob.serviceAccount" . }}
    automountServiceAccountToken: false
    {{- include "ragjob.podSecurity" . | nindent 4 }}
    {{- with include "ragjob.placement" .Values.submitter }}
    {{- . | trim | nindent 4 }}
    {{- end }}
    containers:
      - name: submitter
        {{- include "ragjob.container" . | nindent 8 }}
        resources: {{ toJson .Values.submitter.resources }}
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
    volumes:
      - {name: tmp, emptyDir: {sizeLimit: 256Mi}}
rayClusterSpec:
  rayVersion: 2.60.0
  authOptions: {mode: token}
  enableInTreeAutoscaling: {{ include "ragjob.autoscaling" . | default "false" }}
  {{- if include "ragjob.autoscaling" . }}
  autoscalerOptions:
    version: v2
    idleTimeoutSeconds: 60
    resources:
      requests: {cpu: 100m, memory: 256Mi}
      limits: {cpu: 500m, memory: 512Mi}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
  {{- end }}
  headGroupSpec:
    rayStartParams: {num-cpus: "0"}
    template:
      {{- $head := merge (dict "name" "head" "component" "head" "env" (include "ragjob.headEnv" . | fromYamlArray | concat .Values.head.env)) .Values.head }}
      {{- include "ragjob.rayPod" (list . $head) | nindent 6 }}
  workerGroupSpecs:
    {{- range .Values.workers }}
    - groupName: {{ .name }}
      # With planFirst the job asks for its workers once its plan has passed.
      replicas: {{ $.Values.job.planFirst | ternary 0 .min }}
      minReplicas: {{ $.Values.job.planFirst | ternary 0 .min }}
      maxReplicas: {{ .max }}
      labels: {ray.io/node-group: {{ .name }}}
      rayStartParams: {num-cpus: {{ .cpus | quote }}, num-gpus: {{ .gpus | default 0 | quote }}}
      template:
        {{- include "ragjob.rayPod" (list $ (merge (dict "component" "worker" "resources" (include "ragjob.workerResources" . | fromYaml)) .)) | nindent 8 }}
    {{- end }}
{{- end -}}

{{/* The driver runs on the head: what the chart knows better than the job, which sees only what runs already. */}}
{{- define "ragjob.headEnv" -}}
- {name: RAY_JOB_STOP_WAIT_TIME_S, value: "30"}
{{- if not (dig "chroma" "url" "" .Values.config) }}
- {name: RAGJOB__CHROMA__URL, value: {{ include "ragjob.chromaUrl" . | quote }}}
{{- end }}
{{- if not .Values.config.cluster }}
- {name: RAGJOB__CLUSTER__GROUPS, value: {{ include "ragjob.groups" . | quote }}}
{{- end }}
{{- end -}}

{{- define "ragjob.workerResources" -}}
{{- $size := dict "cpu" (toString .cpus) "memory" .memory -}}
{{- $limits := gt (int .gpus) 0 | ternary (merge (dict "nvidia.com/gpu" .gpus) $size) $size -}}
{{- mergeOverwrite (dict "requests" (deepCopy $size) "limits" $limits) (deepCopy (.resources | default dict)) | toYaml -}}
{{- end -}}

{{/* A pod of Ray: call with (list . GROUP), GROUP being the head's values or a worker group's. */}}
{{- define "ragjob.rayPod" -}}
{{- $ := index . 0 -}}
{{- with index . 1 -}}
metadata:
  labels:
    {{- include "ragjob.selector" $ | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  serviceAccountName: {{ include "ragjob.serviceAccount" $ }}
  # Only the autoscaler, beside the head, speaks to Kubernetes.
  automountServiceAccountToken: {{ and (eq .component "head") (eq (include "ragjob.autoscaling" $) "true") }}
  {{- include "ragjob.podSecurity" $ | nindent 2 }}
  {{- with .runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with include "ragjob.placement" . }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  containers:
    - name: ray
      {{- include "ragjob.container" $ | nindent 6 }}
      resources: {{ toJson .resources }}
      {{- with .env }}
      env:
        {{- include "ragjob.env" (list $ .) | nindent 8 }}
      {{- end }}
      {{- with concat $.Values.secrets (.secrets | default list) | uniq }}
      envFrom:
        {{- range . }}
        - secretRef: {name: {{ . }}}
        {{- end }}
      {{- end }}
      volumeMounts:
        - {name: settings, mountPath: /etc/ragjob, readOnly: true}
        {{- $mounted := list }}
        {{- range .volumeMounts }}{{ $mounted = append $mounted (clean .mountPath) }}{{ end }}
        {{- range $name, $path := dict "tmp" "/tmp" "cache" "/home/ragjob/.cache" }}
        {{- if not (has $path $mounted) }}
        - {name: {{ $name }}, mountPath: {{ $path }}}
        {{- end }}
        {{- end }}
        {{- with .volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - {name: settings, configMap: {name: {{ include "ragjob.jobName" $ }}}}
    {{- $named := list }}
    {{- range .volumes }}{{ $named = append $named .name }}{{ end }}
    {{- range $name := list "tmp" "cache" }}
    {{- if not (has $name $named) }}
    - {name: {{ $name }}, emptyDir: {sizeLimit: {{ get $.Values.scratch $name }}}}
    {{- end }}
    {{- end }}
    {{- with .volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end -}}
