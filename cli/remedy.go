package cli

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// The library tells what to do in its own terms: options, functions, and fields of the policy. This
// file turns them into commands and flags of this program.

// optionFlags are the flags that stand for options and fields of the library.
var optionFlags = map[string]string{
	"ServiceSpec.Keystore": "--keystore", "ServiceSpec.DataDir": "--data-dir", "ServiceSpec.RunnerEnv": "--runner-env",
	"WithContract": "--contract", "WithRPC": "--rpc", "WithStateDir": "--state-dir", "WithMove": "--move",
	"WithDropped": "--drop", "WithRuns": "--runs", "WithWarmups": "--warmups", "WithTimeout": "--timeout",
	"WithStateful": "--stateful", "WithPersistentConnections": "--persistent", "LoadPrices": "--prices",
}

var optionName = regexp.MustCompile(`\b(With[A-Z][A-Za-z]*|LoadPrices\b|ServiceSpec\.[A-Za-z]+)`)

// withFlags puts flags in place of the options and fields that a text of the library names.
func withFlags(text string) string {
	return optionName.ReplaceAllStringFunc(text, func(name string) string { return cmp.Or(optionFlags[name], name) })
}

// fieldFlags are the flags that set fields of the policy's section "serverless".
var fieldFlags = map[string]string{
	"enable": "--serverless", "fallback_to_vm": "--serverless-fallback", "provider.type": "--faas-provider",
	"provider.project_id": "--faas-gcp-project", "provider.subscription_id": "--faas-azure-subscription",
	"provider.endpoint": "--faas-custom-endpoint", "default_memory_mb": "--faas-memory",
	"default_timeout_secs": "--faas-timeout", "max_concurrency": "--faas-max-concurrency",
	"keep_warm": "--faas-keep-warm",
}

var (
	setFields = regexp.MustCompile(`set serverless\.\S+ to \S+( and serverless\.\S+ to \S+)*`)
	setField  = regexp.MustCompile(`serverless\.(\S+) to (\S+)`)
)

// policyCommandFor turns "set serverless.FIELD to VALUE" in a provider's remedy into a command.
func policyCommandFor(provider, remedy string) string {
	regions := map[string]string{faas.AWSLambda: "--faas-aws-region", faas.GCPFunctions: "--faas-gcp-region",
		faas.AzureFunctions: "--faas-azure-region"}
	return setFields.ReplaceAllStringFunc(remedy, func(text string) string {
		command := "tangle-cloud policy"
		for _, m := range setField.FindAllStringSubmatch(text, -1) {
			field, value := m[1], m[2]
			flag := fieldFlags[field]
			if field == "provider.region" {
				flag = regions[provider]
			}
			if option, ok := strings.CutPrefix(field, "provider_config."); ok {
				flag, value = "--faas-option", option+"="+value
			}
			if flag == "" {
				return text
			}
			command += " " + flag + " " + value
		}
		return command
	})
}

// remedies returns the lines that say what to do about a finding of the library.
func remedies(c faas.Check) []string {
	provider, _, _ := strings.Cut(c.Name, "/")
	lines := strings.Split(policyCommandFor(provider, withFlags(c.Remedy))+"\n"+remedyHere(c), "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return strings.TrimSpace(line) == "" })
}

// remedyHere returns what this program offers beyond the library's remedy.
func remedyHere(c faas.Check) string {
	warned, failed := c.Status == faas.CheckWarning, c.Status == faas.CheckFailed
	switch {
	case !warned && !failed:
	case c.Name == "policy" && warned && !setFields.MatchString(c.Remedy):
		return "tangle-cloud policy --serverless true --faas-provider PROVIDER"
	case c.Name == "provider" && failed && !errors.Is(c.Err, faas.ErrNotLinked):
		return "tangle-cloud policy --faas-option NAME=VALUE (NAME= removes an option)"
	case c.Name == "services" && warned:
		return "tangle-cloud recover --name SERVICE"
	case c.Name == "state":
		return "tangle-cloud --state-dir DIRECTORY"
	case c.Name == "blueprint":
		return "tangle-cloud doctor --blueprint-id ID --rpc URL"
	case c.Name == "chain" || c.Name == "head" || c.Name == "contract":
		return "tangle-cloud doctor --rpc URL --chain-id ID"
	}
	return ""
}

// whyBeside says why jobs are not on FaaS in a plan, and what to do about it.
func whyBeside(plan *serverless.Plan, policy *serverless.Policy) (lines []string) {
	if !policy.Serverless.Enable {
		return []string{`no job goes to FaaS, because serverless is off: "tangle-cloud policy --serverless true" turns it on`}
	}
	if plan.Analysis == nil {
		return nil
	}
	for _, job := range plan.Analysis.Jobs {
		for _, reason := range job.Reasons {
			lines = append(lines, fmt.Sprintf("job %d does not go to FaaS: %s", job.JobID, reasonText(reason, plan.Binary.Path)))
		}
	}
	return lines
}

// reasonText is a reason of the analysis, with the command that helps.
func reasonText(reason serverless.Reason, binary string) string {
	if reason.Code == serverless.ReasonNoProfile {
		return fmt.Sprintf("it was never profiled, and nothing untested is deployed: measure it with "+
			"\"tangle-cloud profile %s\"", cmp.Or(binary, "BINARY"))
	}
	return reason.String()
}
