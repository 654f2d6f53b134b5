#!/bin/sh
# Speaks the Lambda Runtime API for a program that reads one request on stdin and writes one response on stdout.
# It needs sh, curl, sed and mktemp, which provided.al2023 has.
set -u
curl() { command curl -q --noproxy "*" "$@"; } # whatever the environment says of proxies
function="${LAMBDA_TASK_ROOT:-$(dirname "$0")}/function"
api="http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime"
# A runtime that Lambda stopped, at a timeout, leaves its files to the one that comes after it.
tmp="${TMPDIR:-/tmp}"
for old in "$tmp"/blueprint-stdio.*; do
	pid="${old#"$tmp/blueprint-stdio."}"
	pid="${pid%.*}"
	if [ "$pid" = $$ ] || ! kill -0 "$pid" 2>/dev/null; then rm -rf "$old"; fi
done
work=$(mktemp -d "$tmp/blueprint-stdio.$$.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
header() { sed -n "s/^$1:[[:space:]]*//Ip" "$work/headers" | tr -d '\r' | head -n 1; }

if [ ! -x "$function" ]; then
	printf '{"errorMessage":"the package has no executable file named function","errorType":"Runtime.InvalidEntrypoint"}' |
		curl -sS -o "$work/answer" -H 'Lambda-Runtime-Function-Error-Type: Runtime.InvalidEntrypoint' --data-binary @- "$api/init/error"
	exit 1
fi
while :; do
	curl -sS -g --max-time 0 -D "$work/headers" -o "$work/request" "$api/invocation/next" || exit 1
	id=$(header Lambda-Runtime-Aws-Request-Id)
	[ -n "$id" ] || exit 1
	invocation="$api/invocation/$id"
	case "$(head -c 64 "$work/request")" in
	'@WARM@')
		printf '@WARMED@' | curl -sS -o "$work/answer" --data-binary @- "$invocation/response" || exit 1
		continue
		;;
	*'"args":{"base64":'*) # the compact form, of a caller who takes the function for what it was before; the program might run without arguments
		printf '{"errorMessage":"args: \\"{\\" where a list of bytes should be","errorType":"BadRequest"}' |
			curl -sS -o "$work/answer" -H 'Lambda-Runtime-Function-Error-Type: BadRequest' --data-binary @- "$invocation/error" || exit 1
		continue
		;;
	esac
	(
		unset AWS_LAMBDA_RUNTIME_API
		_X_AMZN_TRACE_ID=$(header Lambda-Runtime-Trace-Id)
		export _X_AMZN_TRACE_ID
		exec "$function"
	) <"$work/request" >"$work/response"
	code=$?
	if [ "$code" -eq 0 ] || [ -s "$work/response" ]; then
		curl -sS -o "$work/answer" -H 'Content-Type: application/json' --data-binary "@$work/response" "$invocation/response" || exit 1
	else
		printf '{"errorMessage":"the program ended without a response: exit status %d","errorType":"exit"}' "$code" |
			curl -sS -o "$work/answer" -H 'Lambda-Runtime-Function-Error-Type: exit' --data-binary @- "$invocation/error" || exit 1
	fi
done
