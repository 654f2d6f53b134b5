package ec2

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// maxUserData is EC2's limit in bytes, before they are encoded.
const maxUserData = 16 << 10

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// unit restarts the binary however it ends. The pause keeps a binary that cannot run from using up
// the processor's credits.
const unit = `[Unit]
Description=Blueprint runner
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
[Service]
User=blueprint
WorkingDirectory=/var/lib/blueprint
ExecStart=/opt/blueprint/start
RuntimeDirectory=blueprint
RuntimeDirectoryMode=0700
Restart=always
RestartSec=5
[Install]
WantedBy=multi-user.target
`

// healthUnit keeps telling the console what the runner says of its health.
const healthUnit = `[Unit]
Description=Health of the blueprint runner
[Service]
User=blueprint
ExecStart=/opt/blueprint/health
StandardOutput=journal+console
Restart=always
RestartSec=15
[Install]
WantedBy=multi-user.target
`

// healthMark begins what the console says of the runner's health. The time and the status follow.
const healthMark = "blueprint-health: "

// healthScript prints a line whenever what the runner says changes. Nothing can connect to the
// machine, but whoever launched it may read its console.
const healthScript = `#!/bin/sh
last=
while :; do
	now="000 it says nothing of its health"
	address=$(head -c 64 @FILE@ 2>/dev/null) || address=
	case $address in
	127.0.0.1:* | '[::1]:'*)
		said=$(curl --silent --noproxy '*' --max-time 5 --write-out ' %{http_code}' "http://$address/healthz" |
			tr -c '[:print:]' ' ' | tail -c 500)
		now="${said##* } ${said% *}"
		;;
	esac
	if [ "$now" != "$last" ]; then
		echo "` + healthMark + `$(date -u +%Y-%m-%dT%H:%M:%SZ) $now"
		last=$now
	fi
	sleep 15
done
`

// fetch runs at the machine's first boot. All variable parts are encoded, so that no value can end
// a string or a document. A machine that cannot get its binary shuts down, which terminates it; its
// console says why.
const fetch = `#!/bin/sh
set -eu
trap 'if [ $? -ne 0 ]; then echo "blueprint: the runner could not be set up" >/dev/console; shutdown -h now; fi' EXIT
put() { echo "$2" | base64 -d >"$1"; }
id blueprint >/dev/null 2>&1 || useradd --system --home-dir /var/lib/blueprint --shell /sbin/nologin blueprint
install -d -o root -g blueprint -m 0750 /opt/blueprint
install -d -o blueprint -g blueprint -m 0700 /var/lib/blueprint
umask 077
put /opt/blueprint/url '@URL@'
curl --fail --silent --show-error --location --retry 8 --retry-all-errors \
	--output /opt/blueprint/runner "$(cat /opt/blueprint/url)" 2>/opt/blueprint/curl.err || {
  echo "blueprint: the binary could not be fetched: $(cat /opt/blueprint/curl.err)" >/dev/console; exit 1; }
rm -f /opt/blueprint/url /opt/blueprint/curl.err
echo '@SUM@  /opt/blueprint/runner' | sha256sum --check --status || {
  echo "blueprint: the binary that was fetched is not the one that was put into the bucket" >/dev/console; exit 1; }
put /opt/blueprint/start '@START@'
put /etc/systemd/system/blueprint-runner.service '@UNIT@'
chown root:blueprint /opt/blueprint/runner /opt/blueprint/start
chmod 0750 /opt/blueprint/runner /opt/blueprint/start
chmod 0644 /etc/systemd/system/blueprint-runner.service
systemctl daemon-reload
systemctl enable --now blueprint-runner.service
`

// tell follows fetch on the machine of a runner that serves a service on chain.
const tell = `put /opt/blueprint/health '@HEALTH@'
put /etc/systemd/system/blueprint-health.service '@HEALTHUNIT@'
chown root:blueprint /opt/blueprint/health
chmod 0750 /opt/blueprint/health
chmod 0644 /etc/systemd/system/blueprint-health.service
systemctl daemon-reload
systemctl enable --now blueprint-health.service
`

// parameters fetches what is in the parameter store each time the runner starts, with the machine's
// own role. The files are in memory.
const parameters = `umask 077
parameter() {
	aws ssm get-parameter --region @REGION@ --with-decryption --name "$1" --query Parameter.Value --output text
}
`

const keyParameter = `parameter @KEY@ >"$RUNTIME_DIRECTORY/key" || exit 1
export KEYSTORE_URI="$RUNTIME_DIRECTORY/key" BLUEPRINT_KEYSTORE_URI="$RUNTIME_DIRECTORY/key"
`

const envParameter = `parameter @ENV@ >"$RUNTIME_DIRECTORY/env" || exit 1
while IFS= read -r line || [ -n "$line" ]; do
	case $line in
	'' | '#'*) ;;
	[A-Za-z_]*=*) export "$line" ;;
	*)
		echo "blueprint: a line of parameter" @ENV@ "is not NAME=VALUE" >&2
		exit 1
		;;
	esac
done <"$RUNTIME_DIRECTORY/env"
rm "$RUNTIME_DIRECTORY/env"
`

// dataDir is where the runner keeps its journal on the machine.
func dataDir(spec orchestrator.Spec) string {
	return cmp.Or(spec.Chain.DataDir, "/var/lib/blueprint/data")
}

// startScript sets the environment and becomes the runner.
func (c Config) startScript(spec orchestrator.Spec) (string, error) {
	delegated := spec.Delegated
	if delegated == nil {
		delegated = faas.RunnerConfig{}
	}
	config, err := json.Marshal(delegated)
	if err != nil {
		return "", faas.Errorf(faas.ErrInternal, opStart, "", "%w", err)
	}
	env := spec.Env.Reveal()
	if env == nil {
		env = map[string]string{}
	}
	maps.Copy(env, spec.RunnerEnv.Reveal())
	if c.EnvParameter != "" && hasSecret(env[nodeEnv]) {
		delete(env, nodeEnv)
	}
	if spec.Chain != nil {
		env["DATA_DIR"] = dataDir(spec)
	}
	env[faas.RunnerConfigEnv] = string(config)
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !envName.MatchString(name) {
			return "", faas.Errorf(faas.ErrInvalidArgument, opStart, "",
				"ServiceSpec.Env: %q is not the name of an environment variable", name)
		}
		if strings.ContainsRune(env[name], 0) {
			return "", faas.Errorf(faas.ErrInvalidArgument, opStart, "",
				"ServiceSpec.Env: the value of %s contains a zero byte", name)
		}
		fmt.Fprintf(&b, "export %s=%s\n", name, quote(env[name]))
	}
	if spec.Chain != nil {
		b.WriteString("(umask 077; mkdir -p \"$DATA_DIR\")\n")
	}
	fill := strings.NewReplacer("@REGION@", c.Region, "@KEY@", quote(c.KeyParameter), "@ENV@", quote(c.EnvParameter))
	if c.KeyParameter+c.EnvParameter != "" {
		b.WriteString(fill.Replace(parameters))
	}
	if c.KeyParameter != "" {
		b.WriteString(fill.Replace(keyParameter))
	}
	if c.EnvParameter != "" {
		b.WriteString(fill.Replace(envParameter))
	}
	b.WriteString("exec /opt/blueprint/runner")
	for i, arg := range spec.Args {
		if strings.ContainsRune(arg, 0) {
			return "", faas.Errorf(faas.ErrInvalidArgument, opStart, "", "ServiceSpec.Args: argument %d contains a zero byte", i)
		}
		b.WriteString(" " + quote(arg))
	}
	b.WriteString("\n")
	return b.String(), nil
}

// quote quotes any text as one word of the shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// userData returns the script that the machine runs at its first boot.
func (c Config) userData(spec orchestrator.Spec, url string) (string, error) {
	start, err := c.startScript(spec)
	if err != nil {
		return "", err
	}
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	script, health := fetch, ""
	if spec.Chain != nil {
		file := fmt.Sprintf("%s/runner-%d.addr", dataDir(spec), spec.Chain.ServiceID)
		script, health = fetch+tell, strings.ReplaceAll(healthScript, "@FILE@", quote(file))
	}
	script = strings.NewReplacer("@URL@", encode(url), "@SUM@", spec.Binary.SHA256, "@START@", encode(start), "@UNIT@",
		encode(unit), "@HEALTH@", encode(health), "@HEALTHUNIT@", encode(healthUnit)).Replace(script)
	if len(script) > maxUserData {
		return "", faas.Errorf(faas.ErrTooLarge, opStart, "",
			"the machine's user data would have %d bytes, and EC2 takes %d: shorten ServiceSpec.Env and Args, or split the "+
				"service, whose %d functions are in it too", len(script), maxUserData, len(spec.Delegated))
	}
	return script, nil
}
