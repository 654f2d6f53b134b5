//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// endpointEnvPrefix is the prefix of the variables that set base URLs.
const endpointEnvPrefix = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"

// Environment variables that are read if no option gives the value. Google's own command line uses
// those that begin with CLOUDSDK_.
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
	defaultRegion   = "us-central1"
	defaultRuntime  = "go125" // where the API does not tell what it offers
	googleFunctions = "https://cloudfunctions.googleapis.com/"
	googleUsage     = "https://serviceusage.googleapis.com/"
)

// declare declares the options and where in s each is stored.
func declare(s *settings) kit.Options {
	email := func(to *string, name, env, help string) kit.Declared {
		return kit.Into(to, faas.Option{
			Name: name, Env: env, Valid: emailPattern.MatchString,
			Shape: "the email of a service account",
			Help:  help,
		})
	}
	// resource declares an option for a resource of the project in the region.
	resource := func(to *string, name, kind, help string, former ...string) kit.Declared {
		form := "projects/P/locations/R/" + kind + "/NAME"
		valid := func(text string) bool {
			m := resourcePattern.FindStringSubmatch(text)
			return m != nil && m[1] == kind
		}
		return kit.Into(to, faas.Option{
			Name: name, Former: former, Valid: valid,
			Shape: "of the form " + form,
			Help:  help + ", as " + form,
		})
	}
	options := kit.Options{
		kit.Into(&s.mode, faas.Option{
			Name: "mode", Default: modeBuild, Choices: []string{modeBuild, modeRun}, Place: true,
			Help: "functions, or cloud-run: the binary as a Cloud Run service without a build, which needs a bucket",
		}),
		kit.Into(&s.bucket, faas.Option{
			Name: "bucket", Valid: bucketPattern.MatchString,
			Shape: "a bucket's name",
			Help:  "Cloud Storage bucket for the packages of mode cloud-run",
		}),
		kit.Into(&s.baseImage, faas.Option{
			Name: "base_image", Default: "us-central1-docker.pkg.dev/serverless-runtimes/google-24/runtimes/osonly24",
			Help: "base image of mode cloud-run",
		}),
		kit.Into(&s.runtime, faas.Option{
			Name: "runtime", Valid: runtimePattern.MatchString,
			Shape: "a Go runtime such as " + defaultRuntime,
			Help: "Go runtime that builds the source shim, such as go125; without it the newest one that is " +
				"generally available",
		}),
		kit.Into(&s.cpu, faas.Option{
			Name:  "cpu",
			Valid: func(text string) bool { return cpuPattern.MatchString(text) && isSold(processors(text)) },
			Shape: "a number of processors that Google sells: from 0.08 to 1, or 1, 2, 4, 6 or 8",
			Help: "processors of an instance, such as 1 or 0.5; without it as many as the memory takes, and 1 " +
				"at least if concurrency is above 1",
		}),
		kit.Into(&s.concurrency, faas.Option{
			Name: "concurrency", Default: "1", Min: 1, Max: 1000,
			Help: "invocations that one instance serves at the same time; they share its memory",
		}),
		kit.Into(&s.maxInstances, faas.Option{
			Name: "max_instances", Min: 1, Max: 1<<31 - 1,
			Help: "most instances of a function at the same time; without it Google's limit",
		}),
		kit.Into(&s.ingress, faas.Option{
			Name: "visibility", Default: "all", Choices: []string{"all", "internal-only", "internal-and-gclb"},
			Former: []string{"ingress"},
			Help:   "who reaches the functions: all, internal-only, or internal-and-gclb",
		}),
		email(&s.serviceAccount, "service_account", "",
			"email of the service account that the functions run as; without it the project's"),
		email(&s.buildServiceAccount, "build_service_account", "",
			"email of the service account that Cloud Build runs as"),
		resource(&s.workerPool, "build_worker_pool", "workerPools", "Cloud Build worker pool"),
		resource(&s.repository, "repository", "repositories",
			"Artifact Registry repository for the built images", "docker_repository"),
		kit.Into(&s.buildEnv, faas.Option{
			Name: "build_env", Valid: envPattern.MatchString,
			Shape: "NAME=VALUE, with the name of an environment variable",
			Help:  `environment variables of the build, such as "GOPROXY=https://proxy.example"`,
		}),
		kit.Into(&s.labels, faas.Option{
			Name: "labels", Valid: isLabel,
			Shape: "KEY=VALUE, both at most 63 lower-case letters, digits, dashes and underscores, with a " +
				"key that begins with a letter, and not with " + labelPrefix + " or goog",
			Help: `further labels of the functions, such as "team=research,stage=test"`,
		}),
		kit.Into(&s.secretRefs, faas.Option{
			Name: "secrets", Valid: secretPattern.MatchString,
			Shape: "NAME=SECRET:VERSION",
			Help: "environment variables from Secret Manager, as NAME=SECRET or NAME=SECRET:VERSION, or " +
				"NAME=projects/P/secrets/SECRET:VERSION",
		}),
		resource(&s.vpcConnector, "vpc_connector", "connectors", "Serverless VPC Access connector"),
		kit.Into(&s.vpcEgress, faas.Option{
			Name: "vpc_egress", Choices: []string{"private-ranges-only", "all-traffic"},
			Help: "private-ranges-only or all-traffic, for the connector; without it as Google has it",
		}),
		kit.Into(&s.public, faas.Option{
			Name: "public", Default: "false",
			Help: "let everybody invoke the functions (run.invoker for allUsers)",
		}),
		kit.Into(&s.invokers, faas.Option{
			Name: "invokers", Valid: memberPattern.MatchString,
			Shape: "a member such as user:a@example.com or serviceAccount:b@p.iam.gserviceaccount.com; " +
				"everybody is option public",
			Help: `who else may invoke the functions, such as "serviceAccount:runner@p.iam.gserviceaccount.com"`,
		}),
		kit.Into(&s.adopt, faas.Option{
			Name: "adopt", Default: "false",
			Help: "take over functions of the right name that something else deployed",
		}),
		kit.Into(&s.removeArtifacts, faas.Option{
			Name: "remove_artifacts", Default: "false",
			Help: "remove a function's built images with it",
		}),
		kit.Into(&s.deployTimeout, faas.Option{
			Name: "ready_timeout_secs", Default: "900", Min: 1, Max: 24 * 3600,
			Former: []string{"deploy_timeout_secs"},
			Help:   "how long a deployed function may take until it answers, its build included",
		}),
		kit.Into(&s.credentialsFile, faas.Option{
			Name: "credentials_file",
			Help: "JSON file of the credentials; without it Application Default Credentials",
		}),
		email(&s.impersonate, "impersonate_service_account", ImpersonateEnv, "email of the service account to act as"),
		kit.Into(&s.noCredentials, faas.Option{
			Name: "disable_credentials", Env: DisableCredentialsEnv, Default: "false",
			Help: "send no credentials, for emulators",
		}),
	}
	for _, api := range []struct {
		to                *string
		name, title, host string
	}{
		{&s.functionsURL, "functions", "Cloud Functions", "cloudfunctions"},
		{&s.runURL, "run", "Cloud Run", "run"},
		{&s.storageURL, "storage", "Cloud Storage", "storage"},
		{&s.artifactsURL, "artifacts", "Artifact Registry", "artifactregistry"},
		{&s.loggingURL, "logging", "Cloud Logging", "logging"},
		{&s.usageURL, "service_usage", "Service Usage", "serviceusage"},
		{&s.buildURL, "build", "Cloud Build", "cloudbuild"},
		{&s.credentialsURL, "iam_credentials", "IAM Credentials", "iamcredentials"},
		{&s.projectsURL, "resource_manager", "Resource Manager", "cloudresourcemanager"},
	} {
		options = append(options, kit.Into(api.to, faas.Option{
			Name: api.name + "_endpoint", Type: faas.OptionURL,
			Env: endpointEnvPrefix + strings.ToUpper(api.host), Default: "https://" + api.host + ".googleapis.com/",
			Place: api.name == "functions" || api.name == "run" || api.name == "storage",
			Valid: func(text string) bool { return !strings.Contains(text, "?") },
			Shape: "a plain http or https URL",
			Help:  "base URL of the " + api.title + " API",
		}))
	}
	return options
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
	ingress                  string // as option visibility has it
	serviceAccount           string
	buildServiceAccount      string // email
	workerPool, repository   string
	buildEnv, labels         map[string]string
	secretRefs               map[string]string
	secrets                  []secretEnvVar // what secretRefs say, by name
	vpcConnector, vpcEgress  string
	public                   bool
	invokers                 []string
	adopt, removeArtifacts   bool
	deployTimeout            time.Duration

	credentialsFile, impersonate string
	noCredentials                bool

	// Base URLs of the APIs, with a slash at the end.
	functionsURL, runURL, loggingURL, storageURL, artifactsURL, usageURL, projectsURL, buildURL, credentialsURL string
	logPace                                                                                                     logs.Pace
	// shape is a hash of the settings above that shape a function.
	shape string
}

// secretEnvVar is an environment variable from Secret Manager. The names of its fields are part of
// settings.shape.
type secretEnvVar struct {
	Key       string `json:"key,omitempty"`
	ProjectID string `json:"projectId,omitempty"`
	Secret    string `json:"secret,omitempty"`
	Version   string `json:"version,omitempty"`
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
	envPattern     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	secretPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=` +
		`(?:projects/([^/\s:]+)/secrets/)?([A-Za-z0-9_-]{1,255})(?::([a-zA-Z0-9_-]{1,63}))?$`)
	// resourcePattern matches the full name of a resource, and captures its kind.
	resourcePattern = regexp.MustCompile(`^projects/[^/\s]+/locations/[^/\s]+/([a-zA-Z]+)/[^/\s]+$`)
)

// projectEnvs name the project if the configuration does not, in this order. The project of a
// service account's key comes after them.
var projectEnvs = []string{"GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GCLOUD_PROJECT"}

// resolve fills in region and project from the environment if the configuration leaves them open.
// It uses no network, and reads no file but the key of credentials.
func resolve(cfg faas.Config) faas.Config {
	cfg.Region = cmp.Or(cfg.Region, os.Getenv(RegionEnv), defaultRegion)
	for _, name := range projectEnvs {
		cfg.ProjectID = cmp.Or(cfg.ProjectID, os.Getenv(name))
	}
	if cfg.ProjectID == "" {
		cfg.ProjectID = projectOfKey(cmp.Or(cfg.Options["credentials_file"], os.Getenv("GOOGLE_APPLICATION_CREDENTIALS")))
	}
	return cfg
}

// maxKeyFile limits how much of a credentials file is read, in bytes.
const maxKeyFile = 1 << 20

// projectOfKey returns the project of a service account's key file, or "".
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

// parse checks a resolved configuration as far as that is possible without any request.
func parse(cfg faas.Config) (*settings, error) {
	if cfg.Service == "" {
		return nil, invalid("the service name is empty: an executor is bound to one service")
	}
	s := &settings{service: cfg.Service, project: cfg.ProjectID, region: cfg.Region, logPace: defaultLogPace}
	switch {
	case s.project == "":
		return nil, invalid("project_id is missing: it names the Google Cloud project (so does %s)",
			strings.Join(projectEnvs, " or "))
	case !projectPattern.MatchString(s.project):
		return nil, invalid("project_id is %q; a project id has lower-case letters, digits and dashes, and begins with a "+
			"letter", s.project)
	case !regionPattern.MatchString(s.region):
		return nil, invalid("region is %q; it is a Google Cloud region such as %s", s.region, defaultRegion)
	}
	if err := declare(s).Fill(faas.GCPFunctions, cfg); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(s.secretRefs)) {
		m := secretPattern.FindStringSubmatch(name + "=" + s.secretRefs[name])
		s.secrets = append(s.secrets, secretEnvVar{Key: name, ProjectID: m[1], Secret: m[2], Version: cmp.Or(m[3], "latest")})
	}
	for _, base := range []*string{
		&s.functionsURL, &s.runURL, &s.storageURL, &s.artifactsURL, &s.loggingURL, &s.usageURL, &s.buildURL,
		&s.credentialsURL, &s.projectsURL,
	} {
		*base = strings.TrimRight(*base, "/") + "/"
	}
	if s.mode == modeRun && s.bucket == "" {
		return nil, invalid("option bucket is missing: mode %s deploys from a Cloud Storage bucket in the project", modeRun)
	}
	if s.vpcEgress != "" && s.vpcConnector == "" {
		return nil, invalid("option vpc_egress is for a connector, and option vpc_connector is not set")
	}
	s.shape = shapeOf(map[string]any{
		"mode": s.mode, "base_image": s.baseImage, "runtime": s.runtime, "cpu": s.cpu, "concurrency": s.concurrency,
		"max_instances": s.maxInstances,
		"ingress":       s.ingress, "service_account": s.serviceAccount, "build_service_account": s.buildServiceAccount,
		"worker_pool": s.workerPool,
		"repository":  s.repository, "build_env": s.buildEnv, "labels": s.labels, "secrets": s.secrets, "vpc": s.vpcConnector,
		"egress": s.vpcEgress,
		"public": s.public, "invokers": s.invokers,
	})
	return s, nil
}

// moveTo moves every API that is at Google's own address to an endpoint.
func (s *settings) moveTo(endpoint string) {
	for _, at := range []*string{&s.functionsURL, &s.runURL, &s.loggingURL, &s.storageURL, &s.artifactsURL, &s.usageURL,
		&s.projectsURL, &s.buildURL} {
		if strings.HasSuffix(*at, ".googleapis.com/") {
			*at = endpoint
		}
	}
}

// members returns who may invoke the functions, besides those who may because of their role in the
// project.
func (s *settings) members() []string {
	if s.public {
		return append([]string{everybody}, s.invokers...)
	}
	return s.invokers
}

func (s *settings) parent() string { return "projects/" + s.project + "/locations/" + s.region }
