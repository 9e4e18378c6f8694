# shellcheck shell=bash
# nginx as the edge proxy, from the template the compose file uses too.

nginx_binary() { command -v nginx || { [ ! -x /usr/sbin/nginx ] || echo /usr/sbin/nginx; }; }

# The template with this set's addresses; no resolver, for they are plain addresses.
edge_config() {
    local text
    text=$(<"$ROOT/deploy/edge/edge.conf.template")
    text=${text//'${EDGE_LISTEN}'/127.0.0.1:${SETTINGS[port_edge]}}
    text=${text//'${EDGE_INGEST}'/127.0.0.1:${SETTINGS[port_ingest]}}
    text=${text//'${EDGE_QUERY}'/127.0.0.1:${SETTINGS[port_query]}}
    text=${text//'${EDGE_PROCESSOR}'/127.0.0.1:${SETTINGS[port_processor]}}
    text=${text//'${EDGE_RESOLVER}'/}
    text=${text//'${EDGE_RESOLVE}'/}
    printf '%s\n' "$text"
}

edge_stamp() { edge_config | cksum; }

start_edge() {
    local nginx home=$RUN/edge user='' files
    nginx=$(nginx_binary)
    [ -n "$nginx" ] || {
        complain 'no nginx found: run `deploy/local/parts install`'
        return 1
    }
    # Started by root the workers stay root: they listen on loopback only, and another user
    # may not be able to reach this directory.
    [ "$(id -u)" -ne 0 ] || user="user root;"
    turn_log edge
    mkdir -p -- "$home/temp"
    files=$(ulimit -Hn)
    [ "$files" != unlimited ] || files=1048576
    cat >"$home/nginx.conf" <<CONF
$user
daemon off;
worker_processes 2;
worker_rlimit_nofile $files;
pid "$home/nginx.pid";
error_log stderr warn;
events {
    # Two for each live stream that passes.
    worker_connections 8192;
}
http {
    access_log off;
    client_body_temp_path "$home/temp/body";
    proxy_temp_path "$home/temp/proxy";
    fastcgi_temp_path "$home/temp/fastcgi";
    uwsgi_temp_path "$home/temp/uwsgi";
    scgi_temp_path "$home/temp/scgi";
    include "$home/edge.conf";
}
CONF
    edge_config >"$home/edge.conf"
    spawn edge "$nginx" -e stderr -p "$home" -c "$home/nginx.conf"
}

answers_edge() { curl -fsS -m 2 -o /dev/null "http://127.0.0.1:${SETTINGS[port_edge]}/edge/health"; }

# SIGQUIT lets open requests finish.
stop_edge() { stop_process edge QUIT 10; }
kill_edge() { kill_process edge; }
