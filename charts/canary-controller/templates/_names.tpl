{{/* The names are fixed: the guard policies know the controller by its account, and a cluster has one of it. */}}
{{- define "canary.labels" -}}
app.kubernetes.io/part-of: canary-controller
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}
{{- define "canary.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}
{{/* What the restricted Pod Security Standard asks, and a root file system that nobody writes. */}}
{{- define "canary.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "canary.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
{{/* The machines that may write policies: those that people name, and the one that gives everything back at the end. */}}
{{- define "canary.policyWriters" -}}
{{- $uninstall := printf "system:serviceaccount:%s:canary-uninstall" .Release.Namespace -}}
{{- ternary (append .Values.guard.gitopsAccounts $uninstall) .Values.guard.gitopsAccounts .Values.uninstall.detach | toJson -}}
{{- end }}
{{/* The kubelet's own words for a pod that stays off the nodes of its like. */}}
{{- define "canary.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: {{ .when }}
  labelSelector: {matchLabels: {app.kubernetes.io/name: {{ .name }}}}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: {matchLabels: {app.kubernetes.io/name: {{ .name }}}}
{{- end }}
