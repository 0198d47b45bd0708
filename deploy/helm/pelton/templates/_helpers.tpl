{{- define "pelton.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "pelton.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "pelton.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pelton.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select pods: (list $ "worker") */}}
{{- define "pelton.selector" -}}
{{- $top := index . 0 -}}
app.kubernetes.io/name: {{ include "pelton.name" $top }}
app.kubernetes.io/instance: {{ $top.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "pelton.labels" -}}
{{- $top := index . 0 -}}
{{ include "pelton.selector" . }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version }}
{{- end -}}

{{- define "pelton.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Where the default connection leads; empty when the settings say it. */}}
{{- define "pelton.kafka" -}}
{{- if .Values.kafka.bootstrap -}}
{{ .Values.kafka.bootstrap }}
{{- else if .Values.broker.enabled -}}
{{ include "pelton.fullname" . }}-broker.{{ .Release.Namespace }}.svc:9092
{{- else if not (dig "connections" "default" "" .Values.settings) -}}
{{- fail "no queue: give kafka.bootstrap or settings.connections.default, or set broker.enabled for the embedded one" -}}
{{- end -}}
{{- end -}}

{{- define "pelton.coordinatorUrl" -}}
http://{{ include "pelton.fullname" . }}-coordinator:7461
{{- end -}}

{{- define "pelton.operatorAccount" -}}
{{- default (printf "%s-operator" (include "pelton.fullname" .)) .Values.operator.serviceAccount.name -}}
{{- end -}}

{{/* Metadata of a pod: (list $ "worker" values) */}}
{{- define "pelton.podMetadata" -}}
{{- $top := index . 0 -}}{{- $own := index . 2 -}}
labels:
  {{- include "pelton.labels" (list $top (index . 1)) | nindent 2 }}
  {{- with $own.podLabels }}{{ toYaml . | nindent 2 }}{{ end }}
annotations:
  {{- if or (eq (index . 1) "worker") (eq (index . 1) "coordinator") }}
  pelton.dev/settings: {{ $top.Values.settings | toJson | sha256sum | trunc 16 | quote }}
  {{- end }}
  {{- with $own.podAnnotations }}{{ toYaml . | nindent 2 }}{{ end }}
  kubectl.kubernetes.io/default-container: pelton
{{- end -}}

{{/* Where pods go, and as whom: (list $ values) */}}
{{- define "pelton.podPlace" -}}
{{- $top := index . 0 -}}{{- $own := index . 1 -}}
securityContext:
  {{- toYaml $top.Values.podSecurityContext | nindent 2 }}
{{- with $top.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What every container has: (list $ values) */}}
{{- define "pelton.container" -}}
{{- $top := index . 0 -}}{{- $own := index . 1 -}}
name: pelton
image: {{ include "pelton.image" $top }}
imagePullPolicy: {{ $top.Values.image.pullPolicy }}
securityContext:
  {{- toYaml $top.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml $own.resources | nindent 2 }}
startupProbe:
  httpGet: { path: /livez, port: http }
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /livez, port: http }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: http }
  periodSeconds: 2
  timeoutSeconds: 2
{{- end -}}

{{/* Environment of every role; the roles add their own. */}}
{{- define "pelton.env" -}}
- name: PELTON__LOG__FORMAT
  value: {{ .Values.logFormat | quote }}
- name: PELTON__LOG__LEVEL
  value: {{ .Values.logLevel | quote }}
{{- end -}}

{{/* Mounts and volumes of the roles that read records: settings, secrets. */}}
{{- define "pelton.settingsMounts" -}}
- name: settings
  mountPath: /etc/pelton/settings
  readOnly: true
{{- if .Values.existingSecret }}
- name: secrets
  mountPath: /etc/pelton/secrets
  readOnly: true
{{- end }}
{{- end -}}

{{- define "pelton.settingsVolumes" -}}
- name: settings
  configMap:
    name: {{ include "pelton.fullname" . }}-settings
{{- with .Values.existingSecret }}
- name: secrets
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* A claim of a StatefulSet: (list $ values) */}}
{{- define "pelton.claim" -}}
{{- $own := index . 1 -}}
volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      {{- with $own.persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ $own.persistence.size }}
{{- end -}}

{{/* The volume `data` when no claim template makes it: values */}}
{{- define "pelton.dataVolume" -}}
{{- if not .persistence.enabled }}
- name: data
  emptyDir: {}
{{- else if .persistence.existingClaim }}
- name: data
  persistentVolumeClaim:
    claimName: {{ .persistence.existingClaim }}
{{- end }}
{{- end -}}
