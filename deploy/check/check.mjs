// What scripts/check-deployment runs: see there. Arguments: the repository, and a directory with the
// packages of package.json, where the TypeScript is written and compiled.
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, copyFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [root, tools] = process.argv.slice(2);
const yaml = createRequire(join(tools, 'package.json'))('yaml');
const read = (name) => readFileSync(join(root, name), 'utf8');
const problems = [];
const say = (where, problem) => problems.push(`${where}: ${problem}`);

// A document with a member that stands twice is an error of the parser.
const documents = (text, where) =>
    yaml.parseAllDocuments(text).map((document) => {
        document.errors.forEach((error) => say(where, error.message));
        return document.toJS();
    }).filter(Boolean);

// ---- what the code says: docs/config.md, which `make test` compares with the binaries ----------------
const SERVICES = ['ingest', 'processor', 'query'];
const settings = {};
for (const section of read('docs/config.md').split(/^## /m).slice(1)) {
    const [name] = section.split('\n', 1);
    settings[name] = new Map();
    for (const [, names, value] of section.matchAll(/^\| (`.+?) \| (.+?) \|/gm))
        for (const [, variable] of names.matchAll(/`([A-Z0-9_]+)`/g)) settings[name].set(variable, value.replaceAll('`', ''));
}
const port = Object.fromEntries(SERVICES.map((name) => [name, Number(settings[name].get(`${name.toUpperCase()}_PORT`))]));
const grace = Number(settings.processor.get('SHUTDOWN_GRACE_SECONDS'));
settings['tidegate-migrate'] = settings.migrate = settings.processor;
const isSetting = (services, name) => services.some((service) => settings[service].has(name));
for (const name of SERVICES) if (!port[name]) say('docs/config.md', `no port of ${name}`);

// ---- the manifests ------------------------------------------------------------------------------------
const KUSTOMIZE = [[join(tools, 'bin/kustomize'), ['build']], ['kustomize', ['build']], ['kubectl', ['kustomize']]];
function kustomize(directory) {
    for (const [program, verb] of KUSTOMIZE) {
        try {
            return execFileSync(program, [...verb, join(root, directory)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
        } catch (error) {
            if (error.code !== 'ENOENT') throw new Error(`${directory}: ${error.stderr}`);
        }
    }
    throw new Error('neither kustomize nor kubectl is installed');
}

const matches = (selector, labels) =>
    Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value)
    && (selector.matchExpressions ?? []).every(({ key, operator, values }) => operator === 'In' && values.includes(labels[key]));
const podsOf = (object) => object.spec?.template?.spec;

function checkPod(where, object, all) {
    const pod = podsOf(object);
    const name = object.metadata.name;
    const labels = object.spec.template.metadata.labels;
    if (object.spec.selector && !matches(object.spec.selector, labels)) say(where, 'its selector does not match its template');
    if (pod.enableServiceLinks !== false) say(where, 'enableServiceLinks sets INGEST_PORT and the like to what is no port');
    if (pod.automountServiceAccountToken !== false) say(where, 'automountServiceAccountToken is not false');
    if (!pod.securityContext?.runAsNonRoot || !(pod.securityContext.runAsUser > 0)) say(where, 'may run as root');
    if (pod.securityContext?.seccompProfile?.type !== 'RuntimeDefault') say(where, 'no seccompProfile');
    const exists = (kind, wanted) =>
        (kind === 'Secret' && wanted === 'tidegate') || all.some((other) => other.kind === kind && other.metadata.name === wanted);
    for (const { configMap } of pod.volumes ?? [])
        if (configMap && !exists('ConfigMap', configMap.name)) say(where, `no ConfigMap ${configMap.name}`);
    for (const container of pod.containers) {
        const security = container.securityContext ?? {};
        if (security.allowPrivilegeEscalation !== false || security.capabilities?.drop?.[0] !== 'ALL') say(where, 'has privileges');
        if (!/:[^:/]+$/.test(container.image) || container.image.endsWith(':latest')) say(where, `image ${container.image} is not pinned`);
        for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
            const target = container[probe]?.httpGet?.port ?? container[probe]?.tcpSocket?.port;
            if (target && !container.ports.some((known) => known.name === target)) say(where, `${probe}: no port ${target}`);
        }
        for (const { name: variable, valueFrom } of container.env ?? [])
            if (valueFrom?.secretKeyRef && !exists('Secret', valueFrom.secretKeyRef.name)) say(where, `${variable}: no such Secret`);
        if (!settings[name]) continue;
        // Ours.
        if (security.readOnlyRootFilesystem !== true) say(where, 'readOnlyRootFilesystem is not true');
        if (!container.resources?.requests?.memory || !container.resources?.limits?.memory) say(where, 'no memory request or limit');
        for (const { name: variable } of container.env ?? [])
            if (!isSetting([name], variable)) say(where, `${variable} is no setting of ${name} (docs/config.md)`);
        for (const { configMapRef } of container.envFrom ?? []) {
            const map = all.find((other) => other.kind === 'ConfigMap' && other.metadata.name === configMapRef?.name);
            if (!map) say(where, `no ConfigMap ${configMapRef?.name}`);
            for (const variable of Object.keys(map?.data ?? {}))
                if (!isSetting(SERVICES, variable)) say(where, `${variable} in ${map.metadata.name} is no setting (docs/config.md)`);
        }
        if (!SERVICES.includes(name)) continue;
        for (const variable of settings[name].keys())
            // DATABASE_URL has the password of PostgreSQL.
            if (/(SECRET|PASSWORD)$/.test(variable) && variable !== 'POSTGRES_PASSWORD'
                && !container.env.some((known) => known.name === variable && known.valueFrom?.secretKeyRef))
                say(where, `${variable} of docs/config.md is not taken from the Secret`);
        if (container.ports[0].containerPort !== port[name]) say(where, `port ${container.ports[0].containerPort}, not ${port[name]} (docs/config.md)`);
        for (const [probe, path, delay, period] of [['livenessProbe', '/health', 30, 10], ['readinessProbe', '/ready', 5, 5]]) {
            const { httpGet, initialDelaySeconds, periodSeconds } = container[probe] ?? {};
            if (httpGet?.path !== path || initialDelaySeconds !== delay || periodSeconds !== period)
                say(where, `${probe} is not ${path} after ${delay} s every ${period} s`);
        }
        const needs = (container.lifecycle?.preStop?.sleep?.seconds ?? 0) + grace + 5;
        if (!(pod.terminationGracePeriodSeconds >= needs)) say(where, `terminationGracePeriodSeconds is below ${needs} (SHUTDOWN_GRACE_SECONDS)`);
    }
}

function checkSet(overlay, all) {
    const workloads = all.filter(podsOf);
    const selected = (selector) => workloads.filter((object) => matches(selector, object.spec.template.metadata.labels));
    for (const object of all) {
        const where = `${overlay}: ${object.kind} ${object.metadata.name}`;
        if (podsOf(object)) checkPod(where, object, all);
        if (object.kind === 'Service') {
            const [target] = selected({ matchLabels: object.spec.selector });
            if (!target) say(where, 'selects nothing');
            for (const { port: own, targetPort } of object.spec.ports) {
                const found = target && podsOf(target).containers[0].ports.find((known) => known.name === targetPort);
                if (found?.containerPort !== own) say(where, `port ${own} leads to ${found?.containerPort}`);
            }
        }
        if (object.kind === 'PodDisruptionBudget') {
            if (selected(object.spec.selector).length !== 1) say(where, 'does not select one workload');
            if ('minAvailable' in object.spec && 'maxUnavailable' in object.spec) say(where, 'has both minAvailable and maxUnavailable');
        }
        if (object.kind === 'NetworkPolicy') {
            const peers = [...(object.spec.ingress ?? []), ...(object.spec.egress ?? [])].flatMap((rule) => rule.from ?? rule.to ?? []);
            for (const selector of [object.spec.podSelector, ...peers.map((peer) => peer.podSelector).filter(Boolean)])
                if (!selected(selector).length) say(where, `selects nothing by ${JSON.stringify(selector)}`);
        }
        if (object.kind === 'ServiceMonitor') {
            const services = all.filter((other) => other.kind === 'Service' && matches(object.spec.selector, other.metadata.labels ?? {}));
            if (services.length !== SERVICES.length) say(where, `selects ${services.length} services`);
        }
        if (object.kind === 'HorizontalPodAutoscaler') {
            const { name } = object.spec.scaleTargetRef;
            const target = workloads.find((other) => other.metadata.name === name);
            if (!target) say(where, `no ${name} to scale`);
            else if (target.spec.replicas !== undefined) say(where, `${name} has replicas of its own, which every apply would set`);
            const map = all.find((other) => other.kind === 'ConfigMap' && other.metadata.name.startsWith('tidegate-settings'));
            const partitions = Number(map?.data.KAFKA_PARTITIONS ?? settings.processor.get('KAFKA_PARTITIONS'));
            for (const { external } of object.spec.metrics)
                if (external && !read('deploy/k8s/components/autoscaling/adapter.yaml').includes(`as: ${external.metric.name} `))
                    say(where, `adapter.yaml serves no ${external.metric.name}`);
            if (name === 'processor' && object.spec.maxReplicas > partitions) say(where, `more replicas than KAFKA_PARTITIONS (${partitions})`);
        }
        if (object.kind === 'Ingress')
            for (const { backend } of object.spec.rules.flatMap((rule) => rule.http.paths)) {
                const service = all.find((other) => other.kind === 'Service' && other.metadata.name === backend.service.name);
                if (!service?.spec.ports.some((known) => known.name === backend.service.port.name)) say(where, 'no such Service and port');
            }
    }
    for (const name of SERVICES)
        for (const kind of ['Deployment', 'Service', 'PodDisruptionBudget'])
            if (!all.some((object) => object.kind === kind && object.metadata.name === name)) say(overlay, `no ${kind} ${name}`);
    checkEdge(`${overlay}: edge`, Object.fromEntries(
        podsOf(all.find((object) => object.kind === 'Deployment' && object.metadata.name === 'edge')).containers[0].env
            .map(({ name, value }) => [name, value])));
}

// The edge proxy's variables: all that the template names, and the services' ports.
function checkEdge(where, environment) {
    for (const [, name] of read('deploy/edge/edge.conf.template').matchAll(/\$\{(EDGE_\w+)\}/g))
        if (environment[name] === undefined) say(where, `${name} is not set`);
    for (const name of SERVICES) {
        const value = environment[`EDGE_${name.toUpperCase()}`];
        if (value !== `${name}:${port[name]}`) say(where, `${name} at ${value}, not port ${port[name]} (docs/config.md)`);
    }
}

// ---- what else names ports and variables --------------------------------------------------------------
function checkCompose() {
    const where = 'docker-compose.yml';
    const { services } = yaml.parse(read(where), { merge: true });
    for (const name of ['migrate', ...SERVICES])
        for (const variable of Object.keys(services[name].environment))
            // One list for all.
            if (!isSetting(SERVICES, variable)) say(where, `${variable} is no setting (docs/config.md)`);
    for (const name of SERVICES) {
        const probe = services[name].healthcheck.test.at(-1);
        if (!probe.endsWith(`:${port[name]}/ready`)) say(where, `${name}: ${probe}, but its port is ${port[name]} (docs/config.md)`);
        if (!(parseInt(services[name].stop_grace_period) >= grace + 5)) say(where, `${name}: stop_grace_period is below ${grace + 5} s`);
    }
    checkEdge(where, services.edge.environment);
    const provisioned = read('deploy/grafana/provisioning/datasources/tidegate.yml').replace(/^#.*$/gm, '');
    for (const [, variable] of provisioned.matchAll(/\$(\w+)/g))
        if (services.grafana.environment[variable] === undefined) say(where, `grafana: ${variable} is not set`);
    const uids = yaml.parse(provisioned).datasources.map(({ uid, type }) => `${type} ${uid}`).sort().join();
    if (uids !== 'grafana-postgresql-datasource tidegate-postgres,prometheus tidegate-prometheus') say(where, `grafana: data sources ${uids}`);
    for (const [name, { image }] of Object.entries(services))
        if (!/:[^:/]+$/.test(image) || image.endsWith(':latest')) say(where, `${name}: image ${image} is not pinned`);
    return services;
}

function checkPorts() {
    const exposed = read('deploy/docker/Dockerfile').match(/^EXPOSE (.+)$/m)[1].split(' ').map(Number);
    if (String(exposed.sort()) !== String(Object.values(port).sort())) say('deploy/docker/Dockerfile', `exposes ${exposed}`);
    for (const { job_name: job, dns_sd_configs: [{ names, port: scraped }] } of yaml.parse(read('deploy/prometheus/prometheus.yml')).scrape_configs)
        if (job !== `tidegate-${names[0]}` || scraped !== port[names[0]]) say('deploy/prometheus/prometheus.yml', `${job} at ${names[0]}:${scraped}`);
}

// ---- dashboards and rules ----------------------------------------------------------------------------
function checkMetrics(where, text) {
    const sources = execFileSync('git', ['grep', '-hE', '"[a-z_]+"', '--', 'crates/*/src/*.rs'], { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 });
    for (const [name] of text.matchAll(/\b(tidegate|eventbridge|eventlog|kafka|database)_[a-z_]+\b/g)) {
        // eventlog puts the log's name before those of its producers.
        const base = name.replace(/^eventlog(_postgres)?_publish_/, '');
        const declared = [base, base.replace(/_(bucket|sum|count)$/, '')];
        if (!declared.some((known) => sources.includes(`"${known}"`))) say(where, `no metric ${name}`);
    }
}

function checkDashboard(where, dashboard) {
    const ids = new Set();
    const taken = new Set();
    for (const panel of dashboard.panels) {
        if (ids.has(panel.id)) say(where, `id ${panel.id} stands twice`);
        ids.add(panel.id);
        const { x, y, w, h } = panel.gridPos;
        for (let column = x; column < x + w; column++)
            for (let line = y; line < y + h; line++) {
                if (taken.has(`${column} ${line}`) || column >= 24) return say(where, `${panel.title}: no room at ${column}, ${line}`);
                taken.add(`${column} ${line}`);
            }
        for (const { expr, rawSql } of panel.targets ?? []) {
            if (expr) checkMetrics(`${where}: ${panel.title}`, expr.replace(/\{[^}]*\}/g, ''));
            for (const [, name] of String(expr ?? rawSql).matchAll(/\$\{?([a-z]\w*)/g))
                if (!dashboard.templating.list.some((variable) => variable.name === name)) say(where, `${panel.title}: no variable ${name}`);
        }
    }
}

// ---- types: what Grafana and Kubernetes publish --------------------------------------------------------
const MODELS = { 'monitoring.coreos.com': '@kubernetes-models/prometheus-operator/monitoring.coreos.com' };
function typeOf({ apiVersion, kind }) {
    const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
    return { module: `${MODELS[group] ?? `kubernetes-models/${group}`}/${version}/${kind}`.replace('//', '/'), name: `I${kind}` };
}
function compile(values) {
    const lines = [];
    values.forEach(({ value, module, name }, n) => {
        lines.push(`import type { ${name} as T${n} } from '${module}'; export const v${n}: T${n} = ${JSON.stringify(value)};`);
    });
    copyFileSync(join(root, 'deploy/check/dashboard.ts'), join(tools, 'dashboard.ts'));
    writeFileSync(join(tools, 'values.ts'), lines.join('\n'));
    const options = { strict: true, noEmit: true, module: 'nodenext', moduleResolution: 'nodenext', skipLibCheck: true, types: [] };
    writeFileSync(join(tools, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['values.ts'] }));
    try {
        execFileSync(join(tools, 'node_modules/.bin/tsc'), ['-p', tools], { cwd: tools, encoding: 'utf8' });
    } catch (error) {
        for (const line of String(error.stdout).split('\n').filter((text) => /error TS/.test(text))) {
            const [, number, problem] = line.match(/values\.ts\((\d+),\d+\): error TS\d+: (.*)/) ?? [null, 0, line];
            say(values[number - 1]?.where ?? 'tsc', problem.slice(0, 400));
        }
    }
}

const typed = [];
for (const name of readdirSync(join(root, 'deploy/grafana/dashboards'))) {
    const where = `deploy/grafana/dashboards/${name}`;
    const value = JSON.parse(read(where));
    checkDashboard(where, value);
    typed.push({ where, value, module: './dashboard.js', name: 'Dashboard' });
}
checkMetrics('deploy/prometheus/rules.yml', read('deploy/prometheus/rules.yml').replace(/^.*(record|summary):.*$/gm, ''));
// docs/deployment.md makes it so.
const rule = `apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: { name: tidegate }\nspec:\n${read('deploy/prometheus/rules.yml').replace(/^/gm, '  ')}`;
for (const value of documents(rule, 'deploy/prometheus/rules.yml')) typed.push({ where: 'deploy/prometheus/rules.yml', value, ...typeOf(value) });
const images = new Set(Object.values(checkCompose()).map(({ image }) => image));
checkPorts();
for (const overlay of ['dev', 'production']) {
    const directory = `deploy/k8s/overlays/${overlay}`;
    const all = documents(kustomize(directory), directory);
    checkSet(directory, all);
    for (const value of all) typed.push({ where: `${directory}: ${value.kind} ${value.metadata.name}`, value, ...typeOf(value) });
    if (overlay === 'dev')
        for (const { image } of all.filter(podsOf).flatMap((object) => podsOf(object).containers))
            if (!images.has(image)) say(directory, `image ${image} is none of docker-compose.yml`);
}
compile(typed);

problems.forEach((problem) => console.error(problem));
console.log(`deployment: ${typed.length} documents, ${problems.length} problems`);
process.exit(problems.length ? 1 : 0);
