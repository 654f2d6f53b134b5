//go:build !faas_only || faas_gcp

package gcp

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// The resources of the Cloud Functions API, version 2, as far as they are used. Only what is set is sent.
type function struct {
	Name          string            `json:"name,omitempty"`
	Environment   string            `json:"environment,omitempty"`
	BuildConfig   *buildConfig      `json:"buildConfig,omitempty"`
	ServiceConfig *serviceConfig    `json:"serviceConfig,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`

	// Output only.
	State         string         `json:"state,omitempty"`
	StateMessages []stateMessage `json:"stateMessages,omitempty"`
	UpdateTime    string         `json:"updateTime,omitempty"`
	URL           string         `json:"url,omitempty"`
}

type buildConfig struct {
	Runtime              string            `json:"runtime,omitempty"`
	EntryPoint           string            `json:"entryPoint,omitempty"`
	Source               *source           `json:"source,omitempty"`
	EnvironmentVariables map[string]string `json:"environmentVariables,omitempty"`
	ServiceAccount       string            `json:"serviceAccount,omitempty"`
	WorkerPool           string            `json:"workerPool,omitempty"`
	DockerRepository     string            `json:"dockerRepository,omitempty"`
}

type source struct {
	StorageSource *storageSource `json:"storageSource,omitempty"`
}

type storageSource struct {
	Bucket     string `json:"bucket,omitempty"`
	Object     string `json:"object,omitempty"`
	Generation int64s `json:"generation,omitempty"`
}

type serviceConfig struct {
	TimeoutSeconds                int32             `json:"timeoutSeconds,omitempty"`
	AvailableMemory               string            `json:"availableMemory,omitempty"`
	AvailableCPU                  string            `json:"availableCpu,omitempty"`
	EnvironmentVariables          map[string]string `json:"environmentVariables,omitempty"`
	MaxInstanceCount              int32             `json:"maxInstanceCount,omitempty"`
	MinInstanceCount              int32             `json:"minInstanceCount,omitempty"`
	MaxInstanceRequestConcurrency int32             `json:"maxInstanceRequestConcurrency,omitempty"`
	IngressSettings               string            `json:"ingressSettings,omitempty"`
	ServiceAccountEmail           string            `json:"serviceAccountEmail,omitempty"`
	SecretEnvironmentVariables    []secretEnvVar    `json:"secretEnvironmentVariables,omitempty"`
	VPCConnector                  string            `json:"vpcConnector,omitempty"`
	VPCConnectorEgressSettings    string            `json:"vpcConnectorEgressSettings,omitempty"`
	AllTrafficOnLatestRevision    bool              `json:"allTrafficOnLatestRevision,omitempty"`

	// Output only.
	Service  string `json:"service,omitempty"`
	URI      string `json:"uri,omitempty"`
	Revision string `json:"revision,omitempty"`
}

type secretEnvVar struct {
	Key       string `json:"key,omitempty"`
	ProjectID string `json:"projectId,omitempty"`
	Secret    string `json:"secret,omitempty"`
	Version   string `json:"version,omitempty"`
}

type stateMessage struct {
	Severity string `json:"severity,omitempty"`
	Type     string `json:"type,omitempty"`
	Message  string `json:"message,omitempty"`
}

type functionList struct {
	Functions     []*function `json:"functions"`
	NextPageToken string      `json:"nextPageToken"`
	Unreachable   []string    `json:"unreachable"`
}

type uploadURL struct {
	UploadURL     string         `json:"uploadUrl"`
	StorageSource *storageSource `json:"storageSource"`
}

type runtimeList struct {
	Runtimes []struct {
		Name        string `json:"name"`
		Stage       string `json:"stage"`
		Environment string `json:"environment"`
	} `json:"runtimes"`
}

// operation is a google.longrunning.Operation of either API.
type operation struct {
	Name     string          `json:"name"`
	Done     bool            `json:"done"`
	Error    *rpcStatus      `json:"error"`
	Response json.RawMessage `json:"response"`
	Metadata struct {
		Stages       []stage `json:"stages"`
		BuildName    string  `json:"buildName"`
		StatusDetail string  `json:"statusDetail"`
	} `json:"metadata"`
}

// stage is one step of a deployment.
type stage struct {
	Name          string         `json:"name"`
	State         string         `json:"state"`
	Message       string         `json:"message"`
	ResourceURI   string         `json:"resourceUri"`
	StateMessages []stateMessage `json:"stateMessages"`
}

// rpcStatus is a google.rpc.Status.
type rpcStatus struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Type       string            `json:"@type"`
		Reason     string            `json:"reason"`
		Metadata   map[string]string `json:"metadata"`
		Violations []struct {
			Type        string `json:"type"`
			Subject     string `json:"subject"`
			Description string `json:"description"`
			QuotaMetric string `json:"quotaMetric"`
			QuotaID     string `json:"quotaId"`
		} `json:"violations"`
		FieldViolations []struct {
			Field       string `json:"field"`
			Description string `json:"description"`
		} `json:"fieldViolations"`
		Links []struct {
			Description string `json:"description"`
			URL         string `json:"url"`
		} `json:"links"`
	} `json:"details"`
}

// iamPolicy keeps what it does not know of a policy, which is written back whole.
type iamPolicy struct {
	Version  int           `json:"version,omitempty"`
	Etag     string        `json:"etag,omitempty"`
	Bindings []*iamBinding `json:"bindings,omitempty"`
}

type iamBinding struct {
	Role      string          `json:"role"`
	Members   []string        `json:"members"`
	Condition json.RawMessage `json:"condition,omitempty"`
}

// int64s is a 64-bit number, which Google's JSON writes as a string.
type int64s int64

func (n int64s) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, strconv.FormatInt(int64(n), 10)), nil
}

func (n *int64s) UnmarshalJSON(text []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(text), `"`), 10, 64)
	*n = int64s(v)
	return err
}

func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
