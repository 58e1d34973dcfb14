{{/* Names are fixed: workers and uploaders find the operator by its Service. One release serves one cluster. */}}
{{- define "kinora.jobsNamespace" -}}
{{ .Values.jobs.namespace | default .Release.Namespace }}
{{- end }}

{{- define "kinora.selector" -}}
app.kubernetes.io/name: kinora
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "kinora.labels" -}}
{{ include "kinora.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kinora
{{- end }}

{{- define "kinora.image" -}}
{{ .root.Values.image.registry }}/{{ .repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* Every pod: the restricted Pod Security Standard. No user id is fixed; the images bring theirs. */}}
{{- define "kinora.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "kinora.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What operator and uploader share; each variable is the flag of the same name. */}}
{{- define "kinora.sharedEnv" -}}
- name: KINORA_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: KINORA_JOBS_NAMESPACE
  value: {{ include "kinora.jobsNamespace" . | quote }}
- name: KINORA_CELL
  value: {{ .Values.cell | quote }}
- name: KINORA_STORE_ENDPOINT
  value: {{ required "store.endpoint is required: the URL of the S3 endpoint, such as https://s3.eu-central-1.amazonaws.com" .Values.store.endpoint | quote }}
{{- with .Values.store.presignEndpoint }}
- name: KINORA_STORE_PRESIGN_ENDPOINT
  value: {{ . | quote }}
{{- end }}
- name: KINORA_STORE_BUCKET
  value: {{ required "store.bucket is required: the name of an existing bucket" .Values.store.bucket | quote }}
- name: KINORA_STORE_REGION
  value: {{ .Values.store.region | quote }}
- name: KINORA_STORE_CREDENTIALS_DIR
  value: /etc/kinora/store
{{- if .Values.store.caConfigMap }}
- name: KINORA_STORE_CA_FILE
  value: /etc/kinora/store-ca/ca.crt
{{- end }}
{{- if .Values.insecure }}
- name: KINORA_INSECURE
  value: "true"
{{- end }}
{{- end }}

{{- define "kinora.storeMounts" -}}
- name: store
  mountPath: /etc/kinora/store
  readOnly: true
{{- if .Values.store.caConfigMap }}
- name: store-ca
  mountPath: /etc/kinora/store-ca
  readOnly: true
{{- end }}
{{- end }}

{{/* Readable by the image's user, whose id the chart does not know. */}}
{{- define "kinora.storeVolumes" -}}
- name: store
  secret:
    secretName: {{ .Values.store.existingSecret }}
    defaultMode: 0444
{{- with .Values.store.caConfigMap }}
- name: store-ca
  configMap:
    name: {{ . }}
{{- end }}
{{- end }}

{{- define "kinora.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Spread when it can be done, over zones and then nodes. */}}
{{- define "kinora.spread" -}}
{{- $selector := include "kinora.selector" . }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  {{- end }}
{{- end }}

{{/* The port of a URL, or that of its scheme. */}}
{{- define "kinora.portOf" -}}
{{- $url := urlParse . -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end }}

{{/* The ports to open for a URL: its own, and what is listed of those behind its Service. */}}
{{- define "kinora.portsOf" -}}
- port: {{ include "kinora.portOf" .url }}
{{- range .behind }}
- port: {{ . }}
{{- end }}
{{- end }}

{{/* Every peer but link-local ones, where clouds hand out the credentials of a node. Pods by selector: to some networks they are no addresses. */}}
{{- define "kinora.anywhere" -}}
- namespaceSelector: {}
- ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}
- ipBlock: {cidr: "::/0", except: ["fe80::/10", "fd00:ec2::/32"]}
{{- end }}
