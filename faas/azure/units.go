//go:build !faas_only || faas_azure

package azure

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Units puts all functions into one unit: one app. It refuses what the plan does not offer although
// Azure Functions in general do: more than 4096 MiB, and more than 230 s for an answer. It also
// refuses binaries that speak only stdin and stdout, and environments that no single app can have.
func (e *Executor) Units(bin *faas.Binary, functions []faas.Function) ([]faas.Unit, error) {
	if len(functions) == 0 {
		return nil, nil
	}
	if err := e.checkBinary(bin, functions[0].JobID); err != nil {
		return nil, err
	}
	functions, err := functionRules.Check(functions)
	if err != nil {
		return nil, err
	}
	if err := checkEnvironments(functions); err != nil {
		return nil, err
	}
	return []faas.Unit{{ID: e.names.app, Functions: functions, Files: packageFiles(bin, functions),
		Compact: bin.Compact}}, nil
}

func refuse(code faas.Code, jobID uint32, format string, args ...any) error {
	return faas.JobErrorf(code, "units", faas.AzureFunctions, jobID, format, args...)
}

func (e *Executor) checkBinary(bin *faas.Binary, jobID uint32) error {
	if bin == nil || bin.Path == "" {
		return refuse(faas.ErrInvalidArgument, jobID, "there is no binary to deploy")
	}
	if !e.local || bin.OS != runtime.GOOS {
		if err := bin.CheckLinux(faas.AMD64); err != nil {
			return refuse(faas.CodeOf(err), jobID, "%w", err)
		}
	}
	if bin.Protocols != faas.SpeaksAll {
		return refuse(faas.ErrUnsupported, jobID, "%s speaks only stdin and stdout, and Azure Functions speak HTTP with "+
			"a job: link the package faas/job into it and serve the jobs with "+
			"job.Main, or choose a provider that can adapt it (%s, %s or %s)", bin.Path, faas.AWSLambda, faas.GCPFunctions,
			faas.Custom)
	}
	return nil
}

// functionRules says what one app takes.
var functionRules = kit.FunctionRules{
	Provider: faas.AzureFunctions, Special: checkFunction,
	Prefixes: []string{
		"AzureWebJobs", "AzureFunctions", "FUNCTIONS_", "WEBSITE_", "APPSETTING_", "SCM_", "DEPLOYMENT_STORAGE_",
	},
	Name:     regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`),
	NameHelp: "letters, digits and underscores, and begins with no digit",
}

// checkFunction refuses what the plan does not offer although Azure Functions in general do.
func checkFunction(f faas.Function) error {
	sizes, _ := faas.ProviderMemorySizes(faas.AzureFunctions)
	limits, _ := faas.ProviderLimits(faas.AzureFunctions)
	switch {
	case f.MemoryMB > maxPlanMemoryMB:
		return refuse(faas.ErrTooLarge, f.JobID, "memory of %d MiB is above the limit of %d MiB of the plan Flex "+
			"Consumption (the policy's limit for Azure is %d MiB, of Premium plans, "+
			"which are not deployed to): give the job less, run it locally, or choose %s (10240 MiB) or %s (32768 MiB)",
			f.MemoryMB, maxPlanMemoryMB, limits.MaxMemoryMB, faas.AWSLambda, faas.GCPFunctions)
	case !slices.Contains(sizes.Sizes, f.MemoryMB):
		return refuse(faas.ErrInvalidArgument, f.JobID, "the plan does not sell instances of %d MiB; it sells %v MiB",
			f.MemoryMB, sizes.Sizes)
	case f.TimeoutSecs > maxPlanTimeoutSecs:
		return refuse(faas.ErrTooLarge, f.JobID, "a timeout of %d s is above the limit of %d s that Azure's front end "+
			"gives an answer (the policy's limit for Azure is %d s, for functions that "+
			"nobody waits for): give the job at most %d s, run it locally, or choose %s (900 s) or %s (3600 s)",
			f.TimeoutSecs, maxPlanTimeoutSecs, limits.MaxTimeoutSecs, maxPlanTimeoutSecs, faas.AWSLambda, faas.GCPFunctions)
	case f.KeepWarm > mostAlwaysReady:
		return refuse(faas.ErrTooLarge, f.JobID, "%d instances kept warm are more than the limit of %d", f.KeepWarm,
			mostAlwaysReady)
	}
	return nil
}

// checkEnvironments makes sure that one app can have the environments of all its functions: Azure
// ignores case in names.
func checkEnvironments(functions []faas.Function) error {
	type setting struct {
		name string
		job  uint32
	}
	seen := map[string]setting{}
	values := map[string]string{}
	for _, f := range functions {
		for _, name := range slices.Sorted(maps.Keys(f.Env)) {
			key := strings.ToUpper(name)
			before, there := seen[key]
			switch {
			case there && before.name != name:
				return refuse(faas.ErrInvalidArgument, f.JobID,
					"environment variables %s and %s (of job %d) differ in case alone, and Azure takes them for one", name,
					before.name, before.job)
			case there && values[key] != f.Env[name].Reveal():
				return refuse(faas.ErrUnsupported, f.JobID,
					"environment variable %s has another value than for job %d, and all jobs of a service share one app on Azure: "+
						"use a name for each job, or deploy the jobs as two services", name, before.job)
			}
			seen[key], values[key] = setting{name, f.JobID}, f.Env[name].Reveal()
		}
	}
	return nil
}

// packageFiles returns the files of the app's package: the binary as a custom handler, and a folder
// for each function.
func packageFiles(bin *faas.Binary, functions []faas.Function) []faas.PackageFile {
	files := []faas.PackageFile{
		// Azure's own tools give it this mode; the host starts it as another user.
		{Name: handlerFile, Path: bin.Path, Mode: 0o777},
		{Name: "host.json", Content: marshal(newHostFile(functions)), Mode: 0o644},
	}
	function := marshal(newFunctionFile())
	for _, f := range functions {
		files = append(files, faas.PackageFile{Name: functionName(f.JobID) + "/function.json", Content: function,
			Mode: 0o644})
	}
	return files
}

const (
	handlerFile    = "bootstrap"
	functionPrefix = "job"
	routePrefix    = "api"
)

// functionName returns the name of a job's function in the app. The route is the same, below
// routePrefix.
func functionName(jobID uint32) string {
	return functionPrefix + strconv.FormatUint(uint64(jobID), 10)
}

// hostFile is host.json. The host forwards requests to the handler as they are, and loads no
// extension bundle, which makes cold starts shorter.
type hostFile struct {
	Version         string `json:"version"`
	FunctionTimeout string `json:"functionTimeout"`
	CustomHandler   struct {
		Description struct {
			Executable       string   `json:"defaultExecutablePath"`
			WorkingDirectory string   `json:"workingDirectory"`
			Arguments        []string `json:"arguments"`
		} `json:"description"`
		Forwarding bool `json:"enableForwardingHttpRequest"`
	} `json:"customHandler"`
	Extensions struct {
		HTTP struct {
			RoutePrefix string `json:"routePrefix"`
		} `json:"http"`
	} `json:"extensions"`
}

func newHostFile(functions []faas.Function) hostFile {
	var timeout uint32 // the app has one for all
	for _, f := range functions {
		timeout = max(timeout, f.TimeoutSecs)
	}
	h := hostFile{Version: "2.0", FunctionTimeout: fmt.Sprintf("%02d:%02d:%02d", timeout/3600, timeout/60%60, timeout%60)}
	h.CustomHandler.Description.Executable = handlerFile
	h.CustomHandler.Description.Arguments = []string{}
	h.CustomHandler.Forwarding = true
	h.Extensions.HTTP.RoutePrefix = routePrefix
	return h
}

// functionFile is function.json. The host forwards only for functions with one HTTP trigger and one
// HTTP output.
type functionFile struct {
	Bindings []map[string]any `json:"bindings"`
}

func newFunctionFile() functionFile {
	return functionFile{[]map[string]any{
		{"type": "httpTrigger", "direction": "in", "name": "req", "authLevel": "function",
			"methods": []string{"get", "post"}},
		{"type": "http", "direction": "out", "name": "res"},
	}}
}

func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("faas/azure: a file of the package does not marshal: " + err.Error()) // strings, numbers and lists always do
	}
	return text
}

// formatJobs writes job ids and timeouts into a tag, such as "0-2=60,7=230". If the result is too
// long for a tag, it is empty.
func formatJobs(functions []faas.Function) string {
	var b strings.Builder
	for i := 0; i < len(functions); {
		j := i + 1
		for j < len(functions) && functions[j].TimeoutSecs == functions[i].TimeoutSecs &&
			functions[j].JobID == functions[j-1].JobID+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, functions[i].JobID)
		if j > i+1 {
			fmt.Fprintf(&b, "-%d", functions[j-1].JobID)
		}
		fmt.Fprintf(&b, "=%d", functions[i].TimeoutSecs)
		i = j
	}
	if b.Len() > maxTagValue {
		return ""
	}
	return b.String()
}

// maxTagJobs limits the memory that a tag can take: anybody with the right to write tags may have
// written it.
const maxTagJobs = 1 << 16

// parseJobs reads what formatJobs wrote: the timeout of each job, in seconds. It returns nil for
// anything else.
func parseJobs(tag string) map[uint32]uint32 {
	if tag == "" {
		return nil
	}
	jobs := map[uint32]uint32{}
	for item := range strings.SplitSeq(tag, ",") {
		ids, secs, ok := strings.Cut(item, "=")
		from, to, isRange := strings.Cut(ids, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 32)
		last, err2 := strconv.ParseUint(to, 10, 32)
		timeout, err3 := strconv.ParseUint(secs, 10, 32)
		if !ok || err1 != nil || err2 != nil || err3 != nil || last < first || last-first >= maxTagJobs ||
			len(jobs) > maxTagJobs {
			return nil
		}
		for id := first; id <= last; id++ {
			jobs[uint32(id)] = uint32(timeout)
		}
	}
	return jobs
}
