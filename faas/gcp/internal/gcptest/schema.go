package gcptest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The resources as their discovery documents define them. Like Google, the fake refuses any other
// member in a request, and accepts and ignores output-only members.
type (
	functionSchema struct {
		Name           string            `json:"name"`
		Description    string            `json:"description"`
		Environment    any               `json:"environment"`
		BuildConfig    buildSchema       `json:"buildConfig"`
		ServiceConfig  serviceSchema     `json:"serviceConfig"`
		EventTrigger   any               `json:"eventTrigger"`
		Labels         map[string]string `json:"labels"`
		KmsKeyName     string            `json:"kmsKeyName"`
		BuildpackStack string            `json:"buildpackStack"`
		State          any               `json:"state"`
		StateMessages  any               `json:"stateMessages"`
		UpdateTime     any               `json:"updateTime"`
		CreateTime     any               `json:"createTime"`
		URL            any               `json:"url"`
	}
	buildSchema struct {
		Build                 any               `json:"build"`
		Runtime               string            `json:"runtime"`
		EntryPoint            string            `json:"entryPoint"`
		Source                sourceSchema      `json:"source"`
		SourceProvenance      any               `json:"sourceProvenance"`
		WorkerPool            string            `json:"workerPool"`
		EnvironmentVariables  map[string]string `json:"environmentVariables"`
		DockerRegistry        any               `json:"dockerRegistry"`
		DockerRepository      string            `json:"dockerRepository"`
		ServiceAccount        string            `json:"serviceAccount"`
		AutomaticUpdatePolicy any               `json:"automaticUpdatePolicy"`
		OnDeployUpdatePolicy  any               `json:"onDeployUpdatePolicy"`
	}
	sourceSchema struct {
		StorageSource storageSchema `json:"storageSource"`
	}
	storageSchema struct {
		Bucket          string `json:"bucket"`
		Object          string `json:"object"`
		Generation      any    `json:"generation"`
		SourceUploadURL string `json:"sourceUploadUrl"`
	}
	serviceSchema struct {
		Service                       any               `json:"service"`
		TimeoutSeconds                int               `json:"timeoutSeconds"`
		AvailableMemory               string            `json:"availableMemory"`
		AvailableCPU                  string            `json:"availableCpu"`
		EnvironmentVariables          map[string]string `json:"environmentVariables"`
		MaxInstanceCount              int               `json:"maxInstanceCount"`
		MinInstanceCount              int               `json:"minInstanceCount"`
		VPCConnector                  string            `json:"vpcConnector"`
		VPCConnectorEgressSettings    any               `json:"vpcConnectorEgressSettings"`
		IngressSettings               any               `json:"ingressSettings"`
		URI                           any               `json:"uri"`
		ServiceAccountEmail           string            `json:"serviceAccountEmail"`
		AllTrafficOnLatestRevision    bool              `json:"allTrafficOnLatestRevision"`
		SecretEnvironmentVariables    []secretSchema    `json:"secretEnvironmentVariables"`
		SecretVolumes                 any               `json:"secretVolumes"`
		Revision                      any               `json:"revision"`
		MaxInstanceRequestConcurrency int               `json:"maxInstanceRequestConcurrency"`
		SecurityLevel                 any               `json:"securityLevel"`
		BinaryAuthorizationPolicy     string            `json:"binaryAuthorizationPolicy"`
		// Google's Go client does not know these yet.
		DirectVPCEgress           string `json:"directVpcEgress"`
		DirectVPCNetworkInterface any    `json:"directVpcNetworkInterface"`
	}
	secretSchema struct {
		Key       string `json:"key"`
		ProjectID string `json:"projectId"`
		Secret    string `json:"secret"`
		Version   string `json:"version"`
	}
)

// outputOnly lists members that callers cannot set.
var outputOnly = []string{
	"name", "state", "stateMessages", "updateTime", "createTime", "url", "buildConfig.build",
	"buildConfig.sourceProvenance", "serviceConfig.service", "serviceConfig.uri", "serviceConfig.revision",
}

// enums lists the enumerations that Google's client writes as numbers.
var enums = map[string][]string{
	"environment": {"ENVIRONMENT_UNSPECIFIED", "GEN_1", "GEN_2"},
	"serviceConfig.ingressSettings": {
		"INGRESS_SETTINGS_UNSPECIFIED", "ALLOW_ALL", "ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB"},
	"serviceConfig.vpcConnectorEgressSettings": {
		"VPC_CONNECTOR_EGRESS_SETTINGS_UNSPECIFIED", "PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"},
}

var (
	idPattern     = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)
	keyPattern    = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	valuePattern  = regexp.MustCompile(`^[a-z0-9_-]{0,63}$`)
	memoryPattern = regexp.MustCompile(`^(128Mi|256Mi|512Mi|1Gi|2Gi|4Gi|8Gi|16Gi|32Gi|1024Mi|2048Mi|256M)$`)
)

// readFunction reads and checks a function, and returns it as a document.
func (s *Server) readFunction(r *http.Request, body []byte, creating bool) (map[string]any, error) {
	if r.Header.Get("Content-Type") == "" || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return nil, fmt.Errorf("content type is %q", r.Header.Get("Content-Type"))
	}
	var f functionSchema
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("invalid JSON payload received: %w", err)
	}
	for key, value := range f.Labels {
		if !keyPattern.MatchString(key) || !valuePattern.MatchString(value) {
			return nil, fmt.Errorf("label %s=%s is not valid", key, value)
		}
	}
	c := f.ServiceConfig
	switch {
	case len(f.Labels) > 64:
		return nil, fmt.Errorf("too many labels")
	// The official client sends a number, gcloud nothing.
	case f.Environment != nil && f.Environment != "GEN_2" && f.Environment != 2.0:
		return nil, fmt.Errorf("environment is %v", f.Environment)
	case creating && f.BuildConfig.Runtime == "":
		return nil, fmt.Errorf("build_config.runtime is required")
	case creating && f.BuildConfig.Source.StorageSource.Object == "":
		return nil, fmt.Errorf("build_config.source is required")
	case c.AvailableMemory != "" && !memoryPattern.MatchString(c.AvailableMemory):
		return nil, fmt.Errorf("available memory %q is not valid", c.AvailableMemory)
	case c.TimeoutSeconds < 0 || c.TimeoutSeconds > 3600:
		return nil, fmt.Errorf("timeout %d is not valid", c.TimeoutSeconds)
	case c.MinInstanceCount > 0 && c.MaxInstanceCount > 0 && c.MinInstanceCount > c.MaxInstanceCount:
		return nil, fmt.Errorf("min instances above max instances")
	}
	if runtime := f.BuildConfig.Runtime; runtime != "" && !s.deploys(runtime) {
		return nil, fmt.Errorf("runtime %q is not on offer", runtime)
	}
	for name := range c.EnvironmentVariables {
		if slices.Contains([]string{"K_SERVICE", "K_REVISION", "PORT", "FUNCTION_TARGET", "FUNCTION_SIGNATURE_TYPE"},
			name) || strings.HasPrefix(name, "X_GOOGLE_") || name == "" {
			return nil, fmt.Errorf("environment variable %q is reserved", name)
		}
	}
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, err
	}
	for _, path := range outputOnly {
		set(doc, path, nil)
	}
	for path, names := range enums {
		if n, ok := at(doc, path).(float64); ok && int(n) >= 0 && int(n) < len(names) {
			set(doc, path, names[int(n)])
		}
	}
	return doc, nil
}

// deploys reports whether a runtime can be deployed. A deprecated one can, a decommissioned one
// cannot.
func (s *Server) deploys(runtime string) bool {
	return slices.ContainsFunc(s.runtimes(), func(o Runtime) bool {
		return o.Name == runtime && o.Environment == "GEN_2" && o.Stage != "DECOMMISSIONED"
	})
}

// mebibytes reads an amount of memory, and returns 0 if it is malformed.
func mebibytes(memory string) float64 {
	for unit, factor := range map[string]float64{"Mi": 1, "Gi": 1024, "M": 1e6 / (1 << 20), "G": 1e9 / (1 << 20)} {
		if number, ok := strings.CutSuffix(memory, unit); ok {
			n, _ := strconv.ParseFloat(number, 64)
			return n * factor
		}
	}
	return 0
}

// defaultCPU returns the CPU that Google gives for an amount of memory if none is asked for.
func defaultCPU(mb float64) string {
	for _, step := range []struct {
		mb  float64
		cpu string
	}{{128, "0.0833"}, {256, "0.1666"}, {512, "0.3333"}, {1024, "0.5833"}, {2048, "1"}, {8192, "2"}, {16384, "4"}} {
		if mb <= step.mb {
			return step.cpu
		}
	}
	return "8"
}

// checkCPU refuses combinations of CPU, memory and concurrency that Cloud Run refuses.
func checkCPU(cpu, mb, concurrency float64) error {
	limits := map[float64][2]float64{1: {128, 4096}, 2: {128, 8192}, 4: {2048, 16384}, 6: {4096, 24576}, 8: {4096, 32768}}
	around, whole := limits[cpu]
	switch {
	case !whole && (cpu < 0.08 || cpu >= 1):
		return fmt.Errorf("invalid value specified for cpu: %v", cpu)
	case cpu < 1 && concurrency > 1:
		return fmt.Errorf("total cpu < 1 is not supported with concurrency > 1")
	case cpu < 0.5 && mb > 512, cpu < 1 && mb > 1024, whole && (mb < around[0] || mb > around[1]):
		return fmt.Errorf("invalid value specified for cpu. %v CPUs do not go with %v MiB of memory", cpu, mb)
	}
	return nil
}

// at returns a member of a document by its path.
func at(doc map[string]any, path string) any {
	for {
		head, rest, more := strings.Cut(path, ".")
		if !more {
			return doc[head]
		}
		next, ok := doc[head].(map[string]any)
		if !ok {
			return nil
		}
		doc, path = next, rest
	}
}

// set sets a member of a document, or removes it if value is nil.
func set(doc map[string]any, path string, value any) {
	for {
		head, rest, more := strings.Cut(path, ".")
		if !more {
			if value == nil {
				delete(doc, head)
			} else {
				doc[head] = value
			}
			return
		}
		next, ok := doc[head].(map[string]any)
		if !ok {
			if value == nil {
				return
			}
			next = map[string]any{}
			doc[head] = next
		}
		doc, path = next, rest
	}
}

func str(doc map[string]any, path string) string {
	text, _ := at(doc, path).(string)
	return text
}

// checkMask returns the paths of an update mask in camel case.
func checkMask(mask string) ([]string, error) {
	var paths []string
	for path := range strings.SplitSeq(mask, ",") {
		path = camel(path)
		if !hasPath(reflect.TypeFor[functionSchema](), path) {
			return nil, fmt.Errorf("update_mask has no such field: %q", path)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

var underscore = regexp.MustCompile(`_[a-z]`)

func camel(path string) string {
	return underscore.ReplaceAllStringFunc(path, func(m string) string { return strings.ToUpper(m[1:]) })
}

func hasPath(t reflect.Type, path string) bool {
	head, rest, more := strings.Cut(path, ".")
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("json") == head {
			return !more || hasPath(f.Type, rest)
		}
	}
	return false
}

func clone(doc map[string]any) map[string]any {
	text, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	var copied map[string]any
	if err := json.Unmarshal(text, &copied); err != nil {
		panic(err)
	}
	return copied
}
