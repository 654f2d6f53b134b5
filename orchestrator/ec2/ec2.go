package ec2

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// Kind is the kind of the references to this package's runners.
const Kind = "ec2"

// DefaultInstanceType is the machine of a runner if Config names none: 2 processors of arm64 and
// 512 MB.
const DefaultInstanceType = "t4g.nano"

const opStart = "start runner"

// Config says where runners run, and on what.
type Config struct {
	Region       string // required, such as "us-east-1"
	Bucket       string // required: an existing bucket in the region, for the binaries
	InstanceType string // empty means DefaultInstanceType; the binary must be built for its processor
	// ImageID is the image of the machine. Empty means the newest Amazon Linux 2023. Another image
	// must have systemd and curl, and run user data.
	ImageID          string
	SubnetID         string   // empty means the account's default
	SecurityGroupIDs []string // empty means the VPC's default
	InstanceProfile  string   // name or ARN of the profile with the runner's role; may be empty
	// Tags are added to the machine and its volume, at most 40. No key may begin with "blueprint:" or
	// "aws:".
	Tags map[string]string
	// EnvInUserData puts the service's environment into the machine's user data, which everyone who
	// may call ec2:DescribeInstanceAttribute can read. Otherwise Start refuses a service that has an
	// environment.
	EnvInUserData bool
	// KeyParameter names a parameter of the parameter store, a SecureString, with the key of a service
	// on chain: 64 hexadecimal digits, or a v3 key file whose password is in EnvParameter. The machine
	// reads it into memory whenever the runner starts, with InstanceProfile, which needs
	// ssm:GetParameter and, for a key of your own, kms:Decrypt. The image must have the AWS
	// command-line tool, as Amazon Linux does.
	KeyParameter string
	// EnvParameter names another one, with lines NAME=VALUE that are added to the runner's environment
	// and win over what it has, such as KEYSTORE_PASSWORD or an HTTP_RPC_URL with a key in it.
	EnvParameter string
	// HTTPClient carries every call, including those that fetch credentials. Nil means the SDK's own
	// client.
	HTTPClient *http.Client
}

// Orchestrator starts runners on EC2 and finds them again. It is safe for concurrent use.
type Orchestrator struct {
	cfg    Config
	arch   faas.Arch
	client *client
}

var _ orchestrator.Attacher = (*Orchestrator)(nil)

// pace holds the intervals and bounds of waits.
type pace struct {
	poll    time.Duration // between two looks at a machine
	settle  time.Duration // until a launched machine is certainly visible
	profile time.Duration // until a new instance profile is certainly visible
	answer  time.Duration // for an answer that is needed although the caller is gone
	start   time.Duration // until a machine runs
	cleanup time.Duration // to undo a failed start
}

var usualPace = pace{
	poll: 3 * time.Second, settle: time.Minute, profile: time.Minute, answer: time.Minute, start: 10 * time.Minute,
	cleanup: 5 * time.Minute,
}

var (
	regionPattern = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-\d{1,2}$`)
	bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	typePattern   = regexp.MustCompile(`^[a-z0-9-]+\.[a-z0-9-]+$`)
	imagePattern  = regexp.MustCompile(`^ami-[0-9a-z]+$`)
	subnetPattern = regexp.MustCompile(`^subnet-[0-9a-z]+$`)
	paramPattern  = regexp.MustCompile(`^[A-Za-z0-9_./-]+$`)
	groupPattern  = regexp.MustCompile(`^sg-[0-9a-z]+$`)
	// Families with Graviton processors have a g after the generation (t4g, m7gd, g5g), or are a1.
	gravitonPattern = regexp.MustCompile(`^(a1|[a-z]+[0-9]+[a-z]*g[a-z]*)\.`)
)

// New returns an orchestrator. It reads the AWS configuration and sends nothing. It returns
// ErrInvalidArgument if a field is missing or malformed.
func New(ctx context.Context, cfg Config) (*Orchestrator, error) {
	if cfg.InstanceType == "" {
		cfg.InstanceType = DefaultInstanceType
	}
	cfg.SecurityGroupIDs, cfg.Tags = slices.Clone(cfg.SecurityGroupIDs), maps.Clone(cfg.Tags)
	if err := cfg.check(); err != nil {
		return nil, err
	}
	loaded, err := awsclient.Load(ctx, awsclient.Settings{Region: cfg.Region, HTTPClient: cfg.HTTPClient})
	if err != nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "open", "", "the AWS configuration cannot be loaded: %w", err)
	}
	o := &Orchestrator{cfg: cfg, arch: faas.AMD64, client: newClient(loaded)}
	if gravitonPattern.MatchString(cfg.InstanceType) {
		o.arch = faas.ARM64
	}
	return o, nil
}

func (c Config) check() error {
	bad := func(format string, args ...any) error {
		return faas.Errorf(faas.ErrInvalidArgument, "open", "", "ec2.Config."+format, args...)
	}
	switch {
	case !regionPattern.MatchString(c.Region):
		return bad("Region is %q, not a region such as us-east-1", c.Region)
	case !bucketPattern.MatchString(c.Bucket):
		return bad("Bucket is %q: name a bucket in the region, from which the machine fetches the binary", c.Bucket)
	case !typePattern.MatchString(c.InstanceType):
		return bad("InstanceType is %q, not an instance type such as %s", c.InstanceType, DefaultInstanceType)
	case c.ImageID != "" && !imagePattern.MatchString(c.ImageID):
		return bad("ImageID is %q, not an image such as ami-0a1b", c.ImageID)
	case c.SubnetID != "" && !subnetPattern.MatchString(c.SubnetID):
		return bad("SubnetID is %q, not a subnet such as subnet-0a1b", c.SubnetID)
	case c.KeyParameter != "" && !paramPattern.MatchString(c.KeyParameter):
		return bad("KeyParameter is %q, not the name of a parameter such as /blueprint/key", c.KeyParameter)
	case c.EnvParameter != "" && !paramPattern.MatchString(c.EnvParameter):
		return bad("EnvParameter is %q, not the name of a parameter such as /blueprint/env", c.EnvParameter)
	case c.KeyParameter+c.EnvParameter != "" && c.InstanceProfile == "":
		return bad("InstanceProfile is empty, and the machine needs its role to read KeyParameter and EnvParameter")
	case len(c.Tags) > 40:
		return bad("Tags has %d tags, and at most 40 are allowed", len(c.Tags))
	}
	for _, id := range c.SecurityGroupIDs {
		if !groupPattern.MatchString(id) {
			return bad("SecurityGroupIDs has %q, not a security group such as sg-0a1b", id)
		}
	}
	for key, value := range c.Tags {
		if key == "" || len(key) > 128 || len(value) > 256 || strings.HasPrefix(key, "blueprint:") ||
			strings.HasPrefix(key, "aws:") {
			return bad("Tags: cannot set %q: a key has 1 to 128 bytes and begins with neither blueprint: nor aws:, and a "+
				"value has up to 256 bytes", key)
		}
	}
	return nil
}

// Start launches a machine that runs spec, and returns when EC2 reports that it runs. It keeps the
// machine of an earlier deployment if that runs the same, and terminates it otherwise. Before it
// creates anything, Start refuses a binary that the machine cannot run, a spec without arguments,
// and an environment that is not allowed in user data. If Start fails, it removes what it created,
// or names the rest in the error's Leftovers.
func (o *Orchestrator) Start(ctx context.Context, spec orchestrator.Spec) (orchestrator.Runner, error) {
	runs, err := o.check(spec)
	if err != nil {
		return nil, err
	}
	if spec.Previous != nil {
		old, err := o.attach(*spec.Previous)
		if err != nil {
			return nil, err
		}
		if old.note.Runs == runs {
			switch err := old.resume(ctx, spec.Record); {
			case err == nil:
				return old, nil
			case !errors.Is(err, errEnded):
				return nil, fail(opStart, err)
			}
		}
		if err := old.Stop(ctx); err != nil {
			return nil, err
		}
	}
	n := note{Region: o.cfg.Region, Bucket: o.cfg.Bucket, Runs: runs, Since: time.Now().UTC(),
		Tells: spec.Chain != nil}
	// A token outlives its machine. The random text tells this launch from an earlier one of the same
	// spec.
	n.Token = "blueprint-" + hash(spec.Service, o.cfg.Region, o.cfg.Bucket, o.cfg.SubnetID, runs, rand.Text())[:32]
	n.Key = "blueprint-runners/" + n.Token + "/" + spec.Binary.SHA256
	r := &runner{orc: o, note: n}
	if err := r.record(spec.Record); err != nil {
		return nil, err
	}
	if err := r.launch(ctx, spec); err != nil {
		failed := *fail(opStart, err)
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.client.pace.cleanup)
		defer cancel()
		if serr := r.Stop(clean); serr != nil {
			failed.Leftovers = append(slices.Clone(failed.Leftovers),
				fmt.Sprintf("the machine of client token %s in %s, or object %s in bucket %s (%v)", n.Token, n.Region, n.Key,
					n.Bucket, serr))
		}
		return nil, &failed
	}
	return r, nil
}

// Attach finds the runner that ref identifies. It sends nothing: Health says whether the runner has
// ended.
func (o *Orchestrator) Attach(_ context.Context, ref orchestrator.Ref) (orchestrator.Detached, error) {
	r, err := o.attach(ref)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (o *Orchestrator) attach(ref orchestrator.Ref) (*runner, error) {
	if ref.Kind != Kind {
		return nil, faas.Errorf(faas.ErrUnsupported, "find runner", "",
			"the runner is of kind %q, and this orchestrator finds kind %q: use the orchestrator that started it",
			ref.Kind, Kind)
	}
	r := &runner{orc: o, mayExist: true}
	if err := json.Unmarshal(ref.Private, &r.note); err != nil {
		return nil, faas.Errorf(faas.ErrInternal, "find runner", "", "the ledger's note of runner %s is damaged: %w", ref.ID,
			err)
	}
	if r.note.Token == "" || r.note.Token != ref.ID {
		return nil, faas.Errorf(faas.ErrInternal, "find runner", "",
			"the ledger's note of runner %s is damaged: it has the client token %q", ref.ID, r.note.Token)
	}
	if r.note.Region != o.cfg.Region {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "find runner", "",
			"runner %s is in region %s, and ec2.Config.Region is %s: use an orchestrator for that region", ref.ID,
			r.note.Region, o.cfg.Region)
	}
	return r, nil
}

// check refuses a spec that cannot run, and returns what identifies what it runs.
func (o *Orchestrator) check(spec orchestrator.Spec) (string, error) {
	bad := func(code faas.Code, format string, args ...any) error {
		return faas.Errorf(code, opStart, "", format, args...)
	}
	switch {
	case spec.Record == nil:
		return "", bad(faas.ErrInvalidArgument, "Spec.Record is nil, so nobody records where the runner is")
	case spec.Binary == nil:
		return "", bad(faas.ErrInvalidArgument, "Spec.Binary is nil")
	case len(spec.Args) == 0:
		return "", bad(faas.ErrInvalidArgument, "ServiceSpec.Args is empty, and %s without arguments answers one request "+
			"and ends: give the arguments with which it keeps running", spec.Binary.Path)
	case len(spec.Env) > 0 && !o.cfg.EnvInUserData:
		return "", bad(faas.ErrInvalidArgument, "ServiceSpec.Env has %d variables, which would be in the machine's "+
			"user data, where everyone with ec2:DescribeInstanceAttribute can read them: leave credentials to "+
			"ec2.Config.InstanceProfile, or set EnvInUserData", len(spec.Env))
	case strings.Contains(spec.Binary.Interpreter, "ld-musl"):
		return "", bad(faas.ErrInvalidArgument, "%s is linked with musl's loader %s, which Amazon Linux does not have: "+
			"link it statically, or with glibc", spec.Binary.Path, spec.Binary.Interpreter)
	}
	if err := spec.Binary.CheckLinux(o.arch); err != nil {
		return "", fmt.Errorf("a %s runs it: %w", o.cfg.InstanceType, err)
	}
	if err := o.cfg.checkChain(spec); err != nil {
		return "", err
	}
	if _, err := o.cfg.userData(spec, ""); err != nil {
		return "", err
	}
	journal := ""
	if spec.Chain != nil {
		journal = dataDir(spec)
	}
	text, err := json.Marshal(struct {
		Service, SHA256 string
		Args            []string
		Env             map[string]string
		Delegated       faas.RunnerConfig
		Type, Image     string
		Subnet, Profile string
		Groups          []string
		Tags            map[string]string
		RunnerEnv       map[string]string `json:",omitempty"`
		Journal         string            `json:",omitempty"`
		Parameters      []string          `json:",omitempty"`
	}{spec.Service, spec.Binary.SHA256, spec.Args, spec.Env.Reveal(), spec.Delegated, o.cfg.InstanceType, o.cfg.ImageID,
		o.cfg.SubnetID, o.cfg.InstanceProfile, o.cfg.SecurityGroupIDs, o.cfg.Tags,
		spec.RunnerEnv.Reveal(), journal, o.cfg.parameters()})
	if err != nil {
		return "", bad(faas.ErrInternal, "%w", err)
	}
	return hash(string(text)), nil
}

// parameters are the names of the parameters that the machine reads; nil if it reads none.
func (c Config) parameters() []string {
	if c.KeyParameter+c.EnvParameter == "" {
		return nil
	}
	return []string{c.KeyParameter, c.EnvParameter}
}

// nodeEnv may hold a URL with a secret in it.
const nodeEnv = "HTTP_RPC_URL"

// public are the variables of a runner on chain that are no secrets.
var public = []string{"SERVICE_ID", "BLUEPRINT_ID", "PROTOCOL", "CHAIN", "BLUEPRINT_CHAIN_ID", nodeEnv,
	"TANGLE_CONTRACT",
	"STAKING_CONTRACT", "STATUS_REGISTRY_CONTRACT", "KEYSTORE_URI", "BLUEPRINT_KEYSTORE_URI"}

// hasSecret reports whether one of the nodes is more than a scheme and a host.
func hasSecret(nodes string) bool {
	for node := range strings.SplitSeq(nodes, ",") {
		u, err := url.Parse(strings.TrimSpace(node))
		if err != nil || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return true
		}
	}
	return false
}

// checkChain refuses a runner that cannot have its key or its node, or only in the clear.
func (c Config) checkChain(spec orchestrator.Spec) error {
	bad := func(format string, args ...any) error {
		return faas.Errorf(faas.ErrInvalidArgument, opStart, "", format, args...)
	}
	env := spec.RunnerEnv.Reveal()
	secret := slices.DeleteFunc(spec.RunnerEnv.Names(), func(name string) bool {
		return slices.Contains(public, name) && (name != nodeEnv || !hasSecret(env[name]) || c.EnvParameter != "")
	})
	switch {
	case len(secret) > 0 && !c.EnvInUserData:
		return bad("the runner's environment has %s, which may hold secrets and would be in the machine's user data, where "+
			"everyone with ec2:DescribeInstanceAttribute can read them: put them into ec2.Config.EnvParameter, or set "+
			"EnvInUserData", strings.Join(secret, ", "))
	case spec.Chain == nil:
		return nil
	case env["KEYSTORE_URI"] != "" && c.KeyParameter != "":
		return bad("ServiceSpec.Keystore and ec2.Config.KeyParameter both say where the key is: give one")
	case env["KEYSTORE_URI"] == "" && c.KeyParameter == "" && c.EnvParameter == "":
		return bad("the machine has no key: name a parameter that holds it in ec2.Config.KeyParameter, or in " +
			"ServiceSpec.Keystore the path of one that is in the image")
	case env[nodeEnv] == "" && c.EnvParameter == "":
		return bad("the machine has no node of the chain: name one with WithRPC, or in ec2.Config.EnvParameter as %s",
			nodeEnv)
	}
	return nil
}

func hash(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}
