/** The data sources of the boards, as the variables a viewer picks them with. */
export const DATASOURCE = {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholder is Grafana's
  prometheus: { type: 'prometheus', uid: '${prometheus_datasource}' },
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholder is Grafana's
  logql: { type: 'loki', uid: '${loki_datasource}' },
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholder is Grafana's
  traceql: { type: 'tempo', uid: '${tempo_datasource}' },
} as const;
