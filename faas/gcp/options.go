//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"encoding/json"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/logseq"
)

// endpointEnvPrefix begins the variables of all base URLs; those of APIs that deploy nothing have no option.
const endpointEnvPrefix = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"

// Environment variables that are read where no option gives the value. Those that begin with CLOUDSDK_ are the ones of Google's own command line.
const (
	RegionEnv             = "GCP_REGION"                                // faas.Config.Region; else us-central1
	FunctionsEndpointEnv  = endpointEnvPrefix + "CLOUDFUNCTIONS"        // option functions_endpoint
	RunEndpointEnv        = endpointEnvPrefix + "RUN"                   // option run_endpoint
	StorageEndpointEnv    = endpointEnvPrefix + "STORAGE"               // option storage_endpoint
	DisableCredentialsEnv = "CLOUDSDK_AUTH_DISABLE_CREDENTIALS"         // option disable_credentials
	ImpersonateEnv        = "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT" // option impersonate_service_account
)

// The values of option mode.
const (
	modeBuild = "functions"
	modeRun   = "cloud-run"
)

const (
	defaultRegion        = "us-central1"
	defaultRuntime       = "go125" // where the API does not tell what it offers
	defaultDeployTimeout = 15 * time.Minute
	googleFunctions      = "https://cloudfunctions.googleapis.com/"
	googleRun            = "https://run.googleapis.com/"
	googleStorage        = "https://storage.googleapis.com/"
	googleUsage          = "https://serviceusage.googleapis.com/"
	defaultBaseImage     = "us-central1-docker.pkg.dev/serverless-runtimes/google-24/runtimes/osonly24"
)

func options() []faas.Option {
	return []faas.Option{
		{Name: "mode", Default: modeBuild, Place: true, Help: "functions, or cloud-run: the binary as a Cloud Run service without a build, which needs a bucket"},
		{Name: "bucket", Help: "Cloud Storage bucket for the packages of mode cloud-run"},
		{Name: "base_image", Default: defaultBaseImage, Help: "base image of mode cloud-run"},
		{Name: "runtime", Help: "Go runtime that builds the source shim, such as go125; the default is the newest one that is generally available"},
		{Name: "cpu", Help: "processors of an instance, such as 1 or 0.5; the default follows from the memory, and is 1 at least where concurrency is above 1"},
		{Name: "concurrency", Default: "1", Help: "invocations that one instance serves at the same time, 1 to 1000; they share its memory"},
		{Name: "max_instances", Help: "upper limit of instances of a function; the default is Google's"},
		{Name: "ingress", Default: "all", Help: "all, internal-only, or internal-and-gclb"},
		{Name: "service_account", Help: "email of the service account that the functions run as; the default is the project's"},
		{Name: "build_service_account", Help: "email of the service account that Cloud Build runs as"},
		{Name: "build_worker_pool", Help: "Cloud Build worker pool, as projects/P/locations/R/workerPools/NAME"},
		{Name: "docker_repository", Help: "Artifact Registry repository for the built images, as projects/P/locations/R/repositories/NAME"},
		{Name: "build_env", Help: `environment variables of the build, such as "GOPROXY=https://proxy.example"`},
		{Name: "labels", Help: `further labels of the functions, such as "team=research,stage=test"`},
		{Name: "secrets", Help: `environment variables from Secret Manager, as NAME=SECRET or NAME=SECRET:VERSION, or NAME=projects/P/secrets/SECRET:VERSION`},
		{Name: "vpc_connector", Help: "Serverless VPC Access connector, as projects/P/locations/R/connectors/NAME"},
		{Name: "vpc_egress", Help: "private-ranges-only or all-traffic, for the connector; the default is Google's"},
		{Name: "public", Default: "false", Help: "true: let everybody invoke the functions (run.invoker for allUsers)"},
		{Name: "invokers", Help: `who else may invoke the functions, such as "serviceAccount:runner@p.iam.gserviceaccount.com"`},
		{Name: "adopt", Default: "false", Help: "true: take over functions of the right name that something else deployed"},
		{Name: "remove_artifacts", Default: "false", Help: "true: remove a function's built images with it"},
		{Name: "deploy_timeout_secs", Default: strconv.Itoa(int(defaultDeployTimeout / time.Second)), Help: "how long a deployment of a function may take, in seconds"},
		{Name: "credentials_file", Help: "JSON file of the credentials; the default is Application Default Credentials"},
		{Name: "impersonate_service_account", Help: "email of the service account to act as; the default is $" + ImpersonateEnv},
		{Name: "disable_credentials", Default: "false", Help: "true: send no credentials, for emulators; the default is $" + DisableCredentialsEnv},
		{Name: "functions_endpoint", Place: true, Help: "base URL of the Cloud Functions API; the default is $" + FunctionsEndpointEnv + ", else Google's"},
		{Name: "run_endpoint", Place: true, Help: "base URL of the Cloud Run API; the default is $" + RunEndpointEnv + ", else Google's"},
		{Name: "storage_endpoint", Place: true, Help: "base URL of the Cloud Storage API; the default is $" + StorageEndpointEnv + ", else Google's"},
	}
}

// settings is a checked configuration.
type settings struct {
	service, project, region string
	mode                     string
	bucket, baseImage        string
	runtime                  string
	cpu                      string
	concurrency              uint32
	maxInstances             uint32
	ingress                  string // by its name in options
	serviceAccount           string
	buildServiceAccount      string // email
	workerPool, repository   string
	buildEnv, labels         map[string]string
	secrets                  []secretEnvVar
	vpcConnector, vpcEgress  string
	public                   bool
	invokers                 []string
	adopt, removeArtifacts   bool
	deployTimeout            time.Duration

	credentialsFile, impersonate string
	noCredentials                bool

	// Base URLs of the APIs, with a slash at the end.
	functionsURL, runURL, loggingURL, storageURL, artifactsURL, usageURL, projectsURL, buildURL, credentialsURL string
	logPace                                                                                                     logseq.Pace
	// shape sums up what of the above shapes a function.
	shape string
}

func invalid(format string, args ...any) error {
	return faas.Errorf(faas.ErrInvalidArgument, "open", faas.GCPFunctions, format, args...)
}

var (
	projectPattern = regexp.MustCompile(`^([a-z0-9][a-z0-9.-]*:)?[a-z][a-z0-9-]{0,61}[a-z0-9]$|^[a-z]$|^[0-9]{1,20}$`)
	regionPattern  = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]{1,2}$`)
	runtimePattern = regexp.MustCompile(`^go1[0-9]{2}$`)
	cpuPattern     = regexp.MustCompile(`^([0-9]|[1-9][0-9]?)(\.[0-9]{1,4})?$`)
	bucketPattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)
	emailPattern   = regexp.MustCompile(`^[a-zA-Z0-9._-]+@[a-zA-Z0-9.-]+$`)
	memberPattern  = regexp.MustCompile(`^(user|group|serviceAccount|domain|principal|principalSet):\S+$`)
	envPattern     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	poolPattern    = regexp.MustCompile(`^projects/[^/\s]+/locations/[^/\s]+/workerPools/[^/\s]+$`)
	repoPattern    = regexp.MustCompile(`^projects/[^/\s]+/locations/[^/\s]+/repositories/[^/\s]+$`)
	vpcPattern     = regexp.MustCompile(`^projects/[^/\s]+/locations/[^/\s]+/connectors/[^/\s]+$`)
	secretPattern  = regexp.MustCompile(`^(?:projects/([^/\s:]+)/secrets/)?([A-Za-z0-9_-]{1,255})(?::([a-zA-Z0-9_-]{1,63}))?$`)
)

// projectEnvs name the project where the configuration does not, in this order. After them comes the project of the key of a service account.
var projectEnvs = []string{"GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GCLOUD_PROJECT"}

// resolve says where a service is: what the configuration leaves open of region, project and endpoints is filled in from the environment. What comes of it
// means the same place whatever the environment is, so that it names Google's own endpoints too. It reads no network, and of files only the key of
// credentials.
func resolve(cfg faas.Config) faas.Config {
	cfg.Region = cmp.Or(cfg.Region, os.Getenv(RegionEnv), defaultRegion)
	for _, name := range projectEnvs {
		cfg.ProjectID = cmp.Or(cfg.ProjectID, os.Getenv(name))
	}
	if cfg.ProjectID == "" {
		cfg.ProjectID = projectOfKey(cmp.Or(cfg.Options["credentials_file"], os.Getenv("GOOGLE_APPLICATION_CREDENTIALS")))
	}
	options := map[string]string{
		"functions_endpoint": cmp.Or(os.Getenv(FunctionsEndpointEnv), googleFunctions),
		"run_endpoint":       cmp.Or(os.Getenv(RunEndpointEnv), googleRun),
		"storage_endpoint":   cmp.Or(os.Getenv(StorageEndpointEnv), googleStorage),
	}
	for name, value := range cfg.Options {
		if value != "" || options[name] == "" {
			options[name] = value
		}
	}
	cfg.Options = options
	return cfg
}

// maxKeyFile bounds what is read of a file of credentials, in bytes.
const maxKeyFile = 1 << 20

// projectOfKey returns the project of a service account's key file; empty where there is none.
func projectOfKey(name string) string {
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return ""
	}
	text, err := os.ReadFile(name)
	var key struct {
		ProjectID string `json:"project_id"`
	}
	if err != nil || json.Unmarshal(text, &key) != nil {
		return ""
	}
	return key.ProjectID
}

// parse checks everything that can be checked of a resolved configuration without calling anyone.
func parse(cfg faas.Config) (*settings, error) {
	if cfg.Service == "" {
		return nil, invalid("the service name is empty: an executor is bound to one service")
	}
	known := options()
	for name := range cfg.Options {
		if !slices.ContainsFunc(known, func(o faas.Option) bool { return o.Name == name }) {
			return nil, invalid("unknown option %q", name)
		}
	}
	o := optionReader{values: cfg.Options}
	s := &settings{service: cfg.Service, project: cfg.ProjectID, region: cfg.Region}
	switch {
	case s.project == "":
		return nil, invalid("project_id is missing: it names the Google Cloud project (so does %s)", strings.Join(projectEnvs, " or "))
	case !projectPattern.MatchString(s.project):
		return nil, invalid("project_id is %q; a project id has lower-case letters, digits and dashes, and begins with a letter", s.project)
	case !regionPattern.MatchString(s.region):
		return nil, invalid("region is %q; it is a Google Cloud region such as %s", s.region, defaultRegion)
	}
	s.mode = o.choice("mode", modeBuild, modeBuild, modeRun)
	s.bucket = o.matching("bucket", bucketPattern, "a bucket's name")
	s.baseImage = cmp.Or(o.values["base_image"], defaultBaseImage)
	s.runtime = o.matching("runtime", runtimePattern, "a Go runtime such as "+defaultRuntime)
	s.cpu = o.matching("cpu", cpuPattern, "a number of processors such as 1 or 0.5")
	if n := processors(s.cpu); s.cpu != "" && !isSold(n) {
		o.fail("cpu", "%q is not a number of processors that Google sells: from 0.08 to 1, or 1, 2, 4, 6 or 8", s.cpu)
	}
	s.concurrency = o.number("concurrency", 1, 1000, 1)
	s.maxInstances = o.number("max_instances", 1, 1<<31-1, 0)
	s.ingress = o.choice("ingress", "all", "all", "internal-only", "internal-and-gclb")
	s.serviceAccount = o.matching("service_account", emailPattern, "the email of a service account")
	s.buildServiceAccount = o.matching("build_service_account", emailPattern, "the email of a service account")
	s.workerPool = o.matching("build_worker_pool", poolPattern, "of the form projects/P/locations/R/workerPools/NAME")
	s.repository = o.matching("docker_repository", repoPattern, "of the form projects/P/locations/R/repositories/NAME")
	s.vpcConnector = o.matching("vpc_connector", vpcPattern, "of the form projects/P/locations/R/connectors/NAME")
	s.vpcEgress = o.choice("vpc_egress", "", "", "private-ranges-only", "all-traffic")
	s.buildEnv = o.pairs("build_env", func(name, _ string) string {
		if !envPattern.MatchString(name) {
			return "its name is not one of an environment variable"
		}
		return ""
	})
	s.labels = o.pairs("labels", checkLabel)
	s.secrets = o.secrets()
	s.public, s.adopt, s.removeArtifacts = o.flag("public", ""), o.flag("adopt", ""), o.flag("remove_artifacts", "")
	for member := range o.list("invokers") {
		if !memberPattern.MatchString(member) {
			o.fail("invokers", "an item is not a member such as user:a@example.com or serviceAccount:b@p.iam.gserviceaccount.com; everybody is option public")
		}
		s.invokers = append(s.invokers, member)
	}
	s.deployTimeout = time.Duration(o.number("deploy_timeout_secs", 1, 24*3600, uint32(defaultDeployTimeout/time.Second))) * time.Second
	s.credentialsFile = o.values["credentials_file"]
	s.impersonate = cmp.Or(o.matching("impersonate_service_account", emailPattern, "the email of a service account"), os.Getenv(ImpersonateEnv))
	s.noCredentials = o.flag("disable_credentials", DisableCredentialsEnv)
	s.functionsURL = o.endpoint("functions_endpoint", FunctionsEndpointEnv, googleFunctions)
	s.runURL = o.endpoint("run_endpoint", RunEndpointEnv, googleRun)
	s.storageURL = o.endpoint("storage_endpoint", StorageEndpointEnv, googleStorage)
	s.artifactsURL = o.endpoint("", endpointEnvPrefix+"ARTIFACTREGISTRY", "https://artifactregistry.googleapis.com/")
	s.loggingURL = o.endpoint("", endpointEnvPrefix+"LOGGING", "https://logging.googleapis.com/")
	s.logPace = defaultLogPace
	s.usageURL = o.endpoint("", endpointEnvPrefix+"SERVICEUSAGE", googleUsage)
	s.buildURL = o.endpoint("", endpointEnvPrefix+"CLOUDBUILD", "https://cloudbuild.googleapis.com/")
	s.credentialsURL = o.endpoint("", endpointEnvPrefix+"IAMCREDENTIALS", "https://iamcredentials.googleapis.com/")
	s.projectsURL = o.endpoint("", endpointEnvPrefix+"CLOUDRESOURCEMANAGER", "https://cloudresourcemanager.googleapis.com/")
	if o.err != nil {
		return nil, o.err
	}
	if s.mode == modeRun && s.bucket == "" {
		return nil, invalid("option bucket is missing: mode %s deploys from a Cloud Storage bucket in the project", modeRun)
	}
	if s.vpcEgress != "" && s.vpcConnector == "" {
		return nil, invalid("option vpc_egress is for a connector, and option vpc_connector is not set")
	}
	s.shape = shapeOf(map[string]any{
		"mode": s.mode, "base_image": s.baseImage, "runtime": s.runtime, "cpu": s.cpu, "concurrency": s.concurrency, "max_instances": s.maxInstances,
		"ingress": s.ingress, "service_account": s.serviceAccount, "build_service_account": s.buildServiceAccount, "worker_pool": s.workerPool,
		"repository": s.repository, "build_env": s.buildEnv, "labels": s.labels, "secrets": s.secrets, "vpc": s.vpcConnector, "egress": s.vpcEgress,
		"public": s.public, "invokers": s.invokers,
	})
	return s, nil
}

// members returns who may invoke the functions besides those who may because of what they are in the project.
func (s *settings) members() []string {
	if s.public {
		return append([]string{everybody}, s.invokers...)
	}
	return s.invokers
}

func (s *settings) parent() string { return "projects/" + s.project + "/locations/" + s.region }

// optionReader reads options and keeps the first error.
type optionReader struct {
	values map[string]string
	err    error
}

func (o *optionReader) fail(name, format string, args ...any) {
	if o.err == nil {
		o.err = invalid("option "+name+": "+format, args...)
	}
}

func (o *optionReader) matching(name string, pattern *regexp.Regexp, what string) string {
	value := o.values[name]
	if value != "" && !pattern.MatchString(value) {
		o.fail(name, "%q is not %s", value, what)
	}
	return value
}

func (o *optionReader) choice(name, otherwise string, choices ...string) string {
	value := cmp.Or(o.values[name], otherwise)
	if !slices.Contains(choices, value) {
		o.fail(name, "%q is not one of: %s", value, strings.Trim(strings.Join(choices, ", "), ", "))
	}
	return value
}

// flag reads true or false, from the environment variable where the option is not set.
func (o *optionReader) flag(name, env string) bool {
	value, set := o.values[name]
	if !set && env != "" {
		value = strings.ToLower(os.Getenv(env))
	}
	switch value {
	case "true", "1", "yes", "on":
		return true
	case "", "false", "0", "no", "off":
		return false
	}
	o.fail(name, "%q is neither true nor false", value)
	return false
}

func (o *optionReader) number(name string, least, most, otherwise uint32) uint32 {
	text := o.values[name]
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || uint32(n) < least || uint32(n) > most {
		o.fail(name, "%q is not a whole number from %d to %d", text, least, most)
		return otherwise
	}
	return uint32(n)
}

// list yields the items of a list, trimmed.
func (o *optionReader) list(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for item := range strings.SplitSeq(o.values[name], ",") {
			if item = strings.TrimSpace(item); item != "" && !yield(item) {
				return
			}
		}
	}
}

// pairs reads a list of key=value. check returns what is wrong with one, or "".
func (o *optionReader) pairs(name string, check func(key, value string) string) map[string]string {
	var m map[string]string
	for item := range o.list(name) {
		key, value, found := strings.Cut(item, "=")
		wrong := check(key, value)
		if _, dup := m[key]; dup {
			wrong = "it is there twice"
		}
		if !found || wrong != "" {
			o.fail(name, "%q: %s", key, cmp.Or(wrong, "an item has to be of the form key=value"))
			return nil
		}
		if m == nil {
			m = map[string]string{}
		}
		m[key] = value
	}
	return m
}

func (o *optionReader) secrets() []secretEnvVar {
	var all []secretEnvVar
	for item := range o.list("secrets") {
		name, ref, _ := strings.Cut(item, "=")
		m := secretPattern.FindStringSubmatch(ref)
		if m == nil || !envPattern.MatchString(name) {
			o.fail("secrets", `%q is not of the form NAME=SECRET:VERSION`, item)
			return nil
		}
		all = append(all, secretEnvVar{Key: name, ProjectID: m[1], Secret: m[2], Version: cmp.Or(m[3], "latest")})
	}
	return all
}

func (o *optionReader) endpoint(name, env, otherwise string) string {
	value, from := o.values[name], name
	if value == "" || name == "" {
		value, from = os.Getenv(env), strings.TrimSpace(name+" $"+env)
	}
	if value == "" {
		return otherwise
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		o.fail(from, "it is not a plain http or https URL")
		return otherwise
	}
	return strings.TrimRight(value, "/") + "/"
}
