-- Makes the role that Grafana reads with, or brings it up to date: run it again after an upgrade.
--
--   psql "$DATABASE_URL" -v password=... [-v role=grafana] [-v schema=event] -f deploy/grafana/role.sql
--
-- It may read the views grafana_* and nothing else: no payloads, no ids of users. They show every
-- tenant, so this Grafana is for those who run the service.
\set ON_ERROR_STOP on
\if :{?role} \else \set role grafana \endif
\if :{?schema} \else \set schema event \endif
begin;
select format('create role %I login', :'role') where to_regrole(quote_ident(:'role')) is null \gexec
alter role :"role" password :'password';
alter role :"role" connection limit 10;
alter role :"role" set default_transaction_read_only = on;
alter role :"role" set statement_timeout = '15s';
select format('alter role %I in database %I set search_path = %I', :'role', current_database(), :'schema'),
       format('grant connect on database %I to %I', current_database(), :'role') \gexec
grant usage on schema :"schema" to :"role";
select format('grant select on %I.%I to %I', schemaname, viewname, :'role')
  from pg_views where schemaname = :'schema' and viewname like 'grafana\_%' \gexec
commit;
