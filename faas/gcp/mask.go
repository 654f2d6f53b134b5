//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// entryPoint is the function of the source shim.
const entryPoint = "Job"

var (
	ingressValues = map[string]string{"all": "ALLOW_ALL", "internal-only": "ALLOW_INTERNAL_ONLY", "internal-and-gclb": "ALLOW_INTERNAL_AND_GCLB"}
	egressValues  = map[string]string{"private-ranges-only": "PRIVATE_RANGES_ONLY", "all-traffic": "ALL_TRAFFIC"}
)

// function returns what the deployment wants, without the code.
func (d *deployment) function() *function {
	set, scale := d.e.set, d.e.scale(d.f)
	f := &function{
		Environment: "GEN_2",
		Labels:      d.e.labels(d.f.JobID, d.sha256, d.u.Fingerprint()),
		BuildConfig: &buildConfig{EntryPoint: entryPoint, EnvironmentVariables: set.buildEnv, WorkerPool: set.workerPool, DockerRepository: set.repository},
		ServiceConfig: &serviceConfig{
			TimeoutSeconds: int32(d.f.TimeoutSecs), AvailableMemory: quantity(d.f.MemoryMB), AvailableCPU: scale.cpu,
			EnvironmentVariables: d.f.Env.Reveal(), MaxInstanceCount: int32(scale.most), MinInstanceCount: int32(d.f.KeepWarm),
			MaxInstanceRequestConcurrency: int32(scale.concurrency), IngressSettings: ingressValues[set.ingress], ServiceAccountEmail: set.serviceAccount,
			SecretEnvironmentVariables: set.secrets, VPCConnector: set.vpcConnector, VPCConnectorEgressSettings: egressValues[set.vpcEgress],
			AllTrafficOnLatestRevision: true,
		},
	}
	if set.buildServiceAccount != "" {
		f.BuildConfig.ServiceAccount = "projects/" + set.project + "/serviceAccounts/" + set.buildServiceAccount
	}
	return f
}

// scaling is how a function is spread over instances.
type scaling struct {
	concurrency, most uint32 // most is 0 for the provider's default
	cpu               string
}

// scale keeps to the function's concurrency: instances times invocations per instance is never more than it.
func (e *Executor) scale(f faas.Function) scaling {
	s := scaling{e.set.concurrency, e.set.maxInstances, e.set.cpu}
	if f.MaxConcurrency > 0 {
		s.concurrency = min(s.concurrency, f.MaxConcurrency)
		allowed := f.MaxConcurrency / s.concurrency
		s.most = min(allowed, cmp.Or(s.most, allowed))
	}
	if s.concurrency > 1 && s.cpu == "" && f.MemoryMB < 2048 {
		s.cpu = "1" // less, which is the default for so little memory, is refused
	}
	return s
}

// quantity writes MiB as Google does.
func quantity(mb uint32) string {
	if mb >= 1024 && mb%1024 == 0 {
		return strconv.FormatUint(uint64(mb/1024), 10) + "Gi"
	}
	return strconv.FormatUint(uint64(mb), 10) + "Mi"
}

// bytesOf reads a quantity, in bytes; 0 for none.
func bytesOf(quantity string) float64 {
	number := strings.TrimRight(quantity, "kKMGTi")
	factor, known := map[string]float64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}[quantity[len(number):]]
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !known {
		return 0
	}
	return n * factor
}

// difference returns the paths of what has to be changed. Values that Google chose where nothing was asked for are left alone, unless what
// they follow from changes.
func difference(old, want *function, newCode bool) []string {
	var mask []string
	changed := func(path string, differs bool) {
		if differs {
			mask = append(mask, path)
		}
	}
	ob, wb := old.BuildConfig, want.BuildConfig
	if ob == nil {
		ob = &buildConfig{}
	}
	oc, wc := old.ServiceConfig, want.ServiceConfig
	if oc == nil {
		oc = &serviceConfig{}
	}
	changed("labels", !maps.Equal(old.Labels, want.Labels))
	if newCode {
		changed("buildConfig.source", true)
		changed("buildConfig.runtime", ob.Runtime != wb.Runtime)
	}
	changed("buildConfig.entryPoint", ob.EntryPoint != wb.EntryPoint)
	changed("buildConfig.environmentVariables", !maps.Equal(ob.EnvironmentVariables, wb.EnvironmentVariables))
	changed("buildConfig.workerPool", ob.WorkerPool != wb.WorkerPool)
	changed("buildConfig.dockerRepository", wb.DockerRepository != "" && ob.DockerRepository != wb.DockerRepository)
	changed("buildConfig.serviceAccount", wb.ServiceAccount != "" && ob.ServiceAccount != wb.ServiceAccount)

	memory := bytesOf(oc.AvailableMemory) != bytesOf(wc.AvailableMemory)
	changed("serviceConfig.timeoutSeconds", oc.TimeoutSeconds != wc.TimeoutSeconds)
	changed("serviceConfig.availableMemory", memory)
	changed("serviceConfig.availableCpu", wc.AvailableCPU != "" && oc.AvailableCPU != wc.AvailableCPU || wc.AvailableCPU == "" && oc.AvailableCPU != "" && memory)
	changed("serviceConfig.environmentVariables", !maps.Equal(oc.EnvironmentVariables, wc.EnvironmentVariables))
	changed("serviceConfig.maxInstanceCount", wc.MaxInstanceCount != 0 && oc.MaxInstanceCount != wc.MaxInstanceCount)
	changed("serviceConfig.minInstanceCount", oc.MinInstanceCount != wc.MinInstanceCount)
	changed("serviceConfig.maxInstanceRequestConcurrency", oc.MaxInstanceRequestConcurrency != wc.MaxInstanceRequestConcurrency)
	changed("serviceConfig.ingressSettings", oc.IngressSettings != wc.IngressSettings)
	changed("serviceConfig.serviceAccountEmail", wc.ServiceAccountEmail != "" && oc.ServiceAccountEmail != wc.ServiceAccountEmail)
	changed("serviceConfig.secretEnvironmentVariables", !sameSecrets(oc.SecretEnvironmentVariables, wc.SecretEnvironmentVariables))
	changed("serviceConfig.vpcConnector", oc.VPCConnector != wc.VPCConnector)
	changed("serviceConfig.vpcConnectorEgressSettings", wc.VPCConnectorEgressSettings != "" && oc.VPCConnectorEgressSettings != wc.VPCConnectorEgressSettings)
	changed("serviceConfig.allTrafficOnLatestRevision", !oc.AllTrafficOnLatestRevision)
	return mask
}

// sameSecrets compares without the project, which Google fills in, possibly as a number, where none was given.
func sameSecrets(old, want []secretEnvVar) bool {
	return slices.EqualFunc(old, want, func(o, w secretEnvVar) bool {
		return o.Key == w.Key && o.Secret == w.Secret && o.Version == w.Version && (w.ProjectID == "" || o.ProjectID == w.ProjectID)
	})
}
