//go:build !faas_only || faas_azure

package azure

import (
	"slices"
	"strings"
)

// Versions of the APIs.
const (
	groupsAPI  = "2025-04-01"
	storageAPI = "2025-01-01"
	webAPI     = "2025-03-01"
	rolesAPI   = "2022-04-01"
)

// resource holds what all resources have.
type resource struct {
	ID       string            `json:"id,omitempty"`
	Name     string            `json:"name,omitempty"`
	Type     string            `json:"type,omitempty"`
	Location string            `json:"location,omitempty"`
	Kind     string            `json:"kind,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
}

// provisioned is the part of properties that tells the state of a resource.
type provisioned struct {
	ProvisioningState string `json:"provisioningState,omitempty"`
}

type group struct {
	resource
	Properties *provisioned `json:"properties,omitempty"`
}

type sku struct {
	Name string `json:"name"`
	Tier string `json:"tier,omitempty"`
}

type account struct {
	resource
	SKU        *sku              `json:"sku,omitempty"`
	Properties accountProperties `json:"properties"`
}

type accountProperties struct {
	provisioned
	MinimumTLS       string     `json:"minimumTlsVersion,omitempty"`
	HTTPSOnly        *bool      `json:"supportsHttpsTrafficOnly,omitempty"`
	PublicBlobs      *bool      `json:"allowBlobPublicAccess,omitempty"`
	SharedKeys       *bool      `json:"allowSharedKeyAccess,omitempty"`
	PrimaryEndpoints *endpoints `json:"primaryEndpoints,omitempty"`
}

type endpoints struct {
	Blob  string `json:"blob,omitempty"`
	Queue string `json:"queue,omitempty"`
	Table string `json:"table,omitempty"`
}

type container struct {
	Properties struct {
		PublicAccess string `json:"publicAccess"`
	} `json:"properties"`
}

type accountKeys struct {
	Keys []struct {
		Value string `json:"value"`
	} `json:"keys"`
}

type plan struct {
	resource
	SKU        *sku           `json:"sku,omitempty"`
	Properties planProperties `json:"properties"`
}

type planProperties struct {
	provisioned
	Reserved bool `json:"reserved"` // Linux
}

type site struct {
	resource
	Identity   *identity      `json:"identity,omitempty"`
	Properties siteProperties `json:"properties"`
}

type identity struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId,omitempty"`
	TenantID    string `json:"tenantId,omitempty"`
}

type siteProperties struct {
	ServerFarmID string      `json:"serverFarmId,omitempty"`
	Reserved     bool        `json:"reserved,omitempty"`
	HTTPSOnly    bool        `json:"httpsOnly,omitempty"`
	AppConfig    *appConfig  `json:"functionAppConfig,omitempty"`
	SiteConfig   *siteConfig `json:"siteConfig,omitempty"`

	// Only in answers.
	ProvisioningState string    `json:"provisioningState,omitempty"`
	State             string    `json:"state,omitempty"`
	LastModified      string    `json:"lastModifiedTimeUtc,omitempty"`
	DefaultHost       string    `json:"defaultHostName,omitempty"`
	EnabledHosts      []string  `json:"enabledHostNames,omitempty"`
	HostStates        []sslHost `json:"hostNameSslStates,omitempty"`
}

type sslHost struct {
	Name     string `json:"name"`
	HostType string `json:"hostType"`
}

type appConfig struct {
	Deployment struct {
		Storage deploymentStorage `json:"storage"`
	} `json:"deployment"`
	Runtime struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"runtime"`
	Scale scale `json:"scaleAndConcurrency"`
}

type deploymentStorage struct {
	Type           string `json:"type"`
	Value          string `json:"value"`
	Authentication struct {
		Type              string `json:"type"`
		ConnectionSetting string `json:"storageAccountConnectionStringName,omitempty"`
	} `json:"authentication"`
}

type scale struct {
	InstanceMemoryMB     uint32        `json:"instanceMemoryMB"`
	MaximumInstanceCount uint32        `json:"maximumInstanceCount"`
	AlwaysReady          []alwaysReady `json:"alwaysReady"`
	Triggers             *triggers     `json:"triggers,omitempty"`
}

type alwaysReady struct {
	Name          string `json:"name"`
	InstanceCount uint32 `json:"instanceCount"`
}

type triggers struct {
	HTTP struct {
		PerInstance uint32 `json:"perInstanceConcurrency"`
	} `json:"http"`
}

type siteConfig struct {
	AppSettings []nameValue `json:"appSettings"`
}

type nameValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// appSettings is the body of an app's settings, which are read and written apart from the app.
type appSettings struct {
	Properties map[string]string `json:"properties"`
}

type roleAssignment struct {
	ID         string `json:"id,omitempty"`
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		PrincipalType    string `json:"principalType"`
	} `json:"properties"`
}

// list is a page of a list.
type list[T any] struct {
	Value    []T    `json:"value"`
	NextLink string `json:"nextLink"`
}

type function struct {
	Name       string `json:"name"` // APP/FUNCTION
	Properties struct {
		Name string `json:"name"`
	} `json:"properties"`
}

func (f function) name() string {
	if f.Properties.Name != "" {
		return f.Properties.Name
	}
	return f.Name[strings.LastIndexByte(f.Name, '/')+1:]
}

type hostKeys struct {
	MasterKey    string            `json:"masterKey"`
	FunctionKeys map[string]string `json:"functionKeys"`
}

// hostStatus is what the Functions host of an app says about itself.
type hostStatus struct {
	State  string   `json:"state"`
	Errors []string `json:"errors"`
}

// functionHost returns the host of the functions, or "".
func (s *site) functionHost() string {
	if s.Properties.DefaultHost != "" {
		return s.Properties.DefaultHost
	}
	for _, h := range s.Properties.HostStates {
		if strings.EqualFold(h.HostType, "Standard") && h.Name != "" {
			return h.Name
		}
	}
	scm := s.publishHost()
	i := slices.IndexFunc(s.Properties.EnabledHosts, func(h string) bool { return h != scm })
	if i < 0 {
		return ""
	}
	return s.Properties.EnabledHosts[i]
}

// publishHost returns the host of the publish endpoint, or "".
func (s *site) publishHost() string {
	for _, h := range s.Properties.HostStates {
		if strings.EqualFold(h.HostType, "Repository") && h.Name != "" {
			return h.Name
		}
	}
	for _, h := range s.Properties.EnabledHosts {
		if strings.Contains(strings.ToLower(h), ".scm.") {
			return h
		}
	}
	return ""
}
