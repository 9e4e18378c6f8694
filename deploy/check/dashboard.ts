// A dashboard as JSON, in the types that Grafana publishes. Where its schema leaves a bag (a panel's
// options, its field's custom part, its queries), the types of the panel and the data source stand here.
import type * as bargauge from '@grafana/grafana-foundation-sdk/bargauge';
import type * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import type * as piechart from '@grafana/grafana-foundation-sdk/piechart';
import type * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import type * as stat from '@grafana/grafana-foundation-sdk/stat';
import type * as table from '@grafana/grafana-foundation-sdk/table';
import type * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';

// An enumeration's values are their texts in JSON, and there are no methods.
type Json<T> = 0 extends 1 & T ? T
    : T extends string ? `${T}`
    : T extends number | boolean | null | undefined ? T
    : T extends (infer E)[] ? Json<E>[]
    : { [K in keyof T as T[K] extends (...arguments_: never[]) => unknown ? never : K]: Json<T[K]> };

type Source<Type, Uid> = { type: Type; uid: Uid };
type Postgres = Source<'grafana-postgresql-datasource', 'tidegate-postgres'>;
type Prometheus = Source<'prometheus', 'tidegate-prometheus'>;
// Grafana publishes no type for the queries of its PostgreSQL data source.
type Sql = { refId: string; format: 'table' | 'time_series'; rawQuery: true; editorMode: 'code'; rawSql: string };
type PromQl = Json<prometheus.Dataquery> & { refId: string };
type Queries = { datasource: Postgres; targets: Sql[] } | { datasource: Prometheus; targets: PromQl[] };

type Custom<C> = Omit<Json<dashboard.FieldConfig>, 'custom'> & { custom?: Partial<Json<C>> };
type Typed<Type, Options, C> = Omit<Json<dashboard.Panel>, 'type' | 'datasource' | 'targets' | 'options' | 'fieldConfig'> & {
    type: Type;
    id: number;
    title: string;
    gridPos: Json<dashboard.GridPos>;
    options: Json<Options>;
    fieldConfig: Omit<Json<dashboard.FieldConfigSource>, 'defaults'> & { defaults: Custom<C> };
} & Queries;
type Panel =
    | Typed<'bargauge', bargauge.Options, never>
    | Typed<'piechart', piechart.Options, piechart.FieldConfig>
    | Typed<'stat', stat.Options, never>
    | Typed<'table', table.Options, table.FieldConfig>
    | Typed<'timeseries', timeseries.Options, timeseries.FieldConfig>;
type Row = Omit<Json<dashboard.RowPanel>, 'panels'> & { panels: Panel[] };

// Nor one for an annotation that its PostgreSQL data source finds.
type Annotation = Omit<Json<dashboard.AnnotationQuery>, 'target' | 'datasource'> & { datasource: Postgres; target: Sql };

export type Dashboard = Omit<Json<dashboard.Dashboard>, 'panels' | 'annotations'> & {
    annotations: { list: Annotation[] };
    uid: string;
    title: string;
    panels: (Panel | Row)[];
};
