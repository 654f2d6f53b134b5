//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/functions/apiv2/functionspb"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// entryPoint is the function of the source shim.
const entryPoint = "Job"

var (
	ingressValues = map[string]functionspb.ServiceConfig_IngressSettings{
		"all": functionspb.ServiceConfig_ALLOW_ALL, "internal-only": functionspb.ServiceConfig_ALLOW_INTERNAL_ONLY,
		"internal-and-gclb": functionspb.ServiceConfig_ALLOW_INTERNAL_AND_GCLB,
	}
	egressValues = map[string]functionspb.ServiceConfig_VpcConnectorEgressSettings{
		"private-ranges-only": functionspb.ServiceConfig_PRIVATE_RANGES_ONLY,
		"all-traffic":         functionspb.ServiceConfig_ALL_TRAFFIC,
	}
)

// function returns the wanted function, without the code.
func (d *deployment) function() *functionspb.Function {
	set, scale := d.e.set, d.e.scale(d.f)
	f := &functionspb.Function{
		Environment: functionspb.Environment_GEN_2,
		Labels:      d.labels(),
		BuildConfig: &functionspb.BuildConfig{
			EntryPoint: entryPoint, EnvironmentVariables: set.buildEnv, WorkerPool: set.workerPool,
			DockerRepository: set.repository,
		},
		ServiceConfig: &functionspb.ServiceConfig{
			TimeoutSeconds: int32(d.f.TimeoutSecs), AvailableMemory: quantity(d.f.MemoryMB), AvailableCpu: scale.cpu,
			EnvironmentVariables: d.f.Env.Reveal(), MaxInstanceCount: int32(scale.most), MinInstanceCount: int32(d.f.KeepWarm),
			MaxInstanceRequestConcurrency: int32(scale.concurrency), IngressSettings: ingressValues[set.ingress],
			ServiceAccountEmail: set.serviceAccount,
			VpcConnector:        set.vpcConnector, VpcConnectorEgressSettings: egressValues[set.vpcEgress],
			AllTrafficOnLatestRevision: true,
		},
	}
	for _, s := range set.secrets {
		f.ServiceConfig.SecretEnvironmentVariables = append(f.ServiceConfig.SecretEnvironmentVariables,
			&functionspb.SecretEnvVar{Key: s.Key, ProjectId: s.ProjectID, Secret: s.Secret, Version: s.Version})
	}
	if set.buildServiceAccount != "" {
		f.BuildConfig.ServiceAccount = "projects/" + set.project + "/serviceAccounts/" + set.buildServiceAccount
	}
	return f
}

// scaling says how a function is spread over instances.
type scaling struct {
	concurrency, most uint32 // most is 0 for the provider's default
	cpu               string
}

// scale keeps to the function's concurrency: instances times invocations per instance never exceeds
// it.
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

// bytesOf reads a quantity, in bytes; an empty one is 0.
func bytesOf(quantity string) float64 {
	number := strings.TrimRight(quantity, "kKMGTi")
	factor, known := map[string]float64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10,
		"Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}[quantity[len(number):]]
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !known {
		return 0
	}
	return n * factor
}

// difference returns the paths that must change. It leaves alone the values that Google chose
// because none was asked for, unless a value on which they depend changes.
func difference(old, want *functionspb.Function, newCode bool) []string {
	var mask []string
	changed := func(path string, differs bool) {
		if differs {
			mask = append(mask, path)
		}
	}
	ob, wb, oc, wc := old.GetBuildConfig(), want.GetBuildConfig(), old.GetServiceConfig(), want.GetServiceConfig()
	changed("labels", !maps.Equal(old.GetLabels(), want.GetLabels()))
	if newCode {
		changed("build_config.source", true)
		changed("build_config.runtime", ob.GetRuntime() != wb.GetRuntime())
	}
	changed("build_config.entry_point", ob.GetEntryPoint() != wb.GetEntryPoint())
	changed("build_config.environment_variables", !maps.Equal(ob.GetEnvironmentVariables(), wb.GetEnvironmentVariables()))
	changed("build_config.worker_pool", ob.GetWorkerPool() != wb.GetWorkerPool())
	changed("build_config.docker_repository", wb.GetDockerRepository() != "" &&
		ob.GetDockerRepository() != wb.GetDockerRepository())
	changed("build_config.service_account", wb.GetServiceAccount() != "" &&
		ob.GetServiceAccount() != wb.GetServiceAccount())

	memory := bytesOf(oc.GetAvailableMemory()) != bytesOf(wc.GetAvailableMemory())
	changed("service_config.timeout_seconds", oc.GetTimeoutSeconds() != wc.GetTimeoutSeconds())
	changed("service_config.available_memory", memory)
	cpu := wc.GetAvailableCpu()
	changed("service_config.available_cpu", cpu != "" && oc.GetAvailableCpu() != cpu || cpu == "" &&
		oc.GetAvailableCpu() != "" && memory)
	changed("service_config.environment_variables",
		!maps.Equal(oc.GetEnvironmentVariables(), wc.GetEnvironmentVariables()))
	changed("service_config.max_instance_count",
		wc.GetMaxInstanceCount() != 0 && oc.GetMaxInstanceCount() != wc.GetMaxInstanceCount())
	changed("service_config.min_instance_count", oc.GetMinInstanceCount() != wc.GetMinInstanceCount())
	changed("service_config.max_instance_request_concurrency",
		oc.GetMaxInstanceRequestConcurrency() != wc.GetMaxInstanceRequestConcurrency())
	changed("service_config.ingress_settings", oc.GetIngressSettings() != wc.GetIngressSettings())
	changed("service_config.service_account_email",
		wc.GetServiceAccountEmail() != "" && oc.GetServiceAccountEmail() != wc.GetServiceAccountEmail())
	changed("service_config.secret_environment_variables",
		!sameSecrets(oc.GetSecretEnvironmentVariables(), wc.GetSecretEnvironmentVariables()))
	changed("service_config.vpc_connector", oc.GetVpcConnector() != wc.GetVpcConnector())
	egress := wc.GetVpcConnectorEgressSettings()
	changed("service_config.vpc_connector_egress_settings", egress != 0 && oc.GetVpcConnectorEgressSettings() != egress)
	changed("service_config.all_traffic_on_latest_revision", !oc.GetAllTrafficOnLatestRevision())
	return mask
}

// sameSecrets compares without the project if none was given, because Google fills it in, possibly
// as a number.
func sameSecrets(old, want []*functionspb.SecretEnvVar) bool {
	return slices.EqualFunc(old, want, func(o, w *functionspb.SecretEnvVar) bool {
		return o.GetKey() == w.GetKey() && o.GetSecret() == w.GetSecret() && o.GetVersion() == w.GetVersion() &&
			(w.GetProjectId() == "" || o.GetProjectId() == w.GetProjectId())
	})
}
