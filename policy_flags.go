package serverless

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// PolicyFlags are the command-line flags that change a policy. Their names are a promise to
// operators. See [BindPolicyFlags].
type PolicyFlags struct {
	enable, fallback                     *bool // nil: the flag was not given
	memory, timeout, concurrency, warm   *uint32
	provider, project, subscription, url *string
	awsRegion, gcpRegion, azureRegion    *string
}

// Names of the flags.
const (
	flagEnable       = "serverless"
	flagProvider     = "faas-provider"
	flagAWSRegion    = "faas-aws-region"
	flagGCPRegion    = "faas-gcp-region"
	flagAzureRegion  = "faas-azure-region"
	flagProject      = "faas-gcp-project"
	flagSubscription = "faas-azure-subscription"
	flagEndpoint     = "faas-custom-endpoint"
	flagMemory       = "faas-memory"
	flagTimeout      = "faas-timeout"
	flagConcurrency  = "faas-max-concurrency"
	flagWarm         = "faas-keep-warm"
	flagFallback     = "serverless-fallback"
)

// BindPolicyFlags defines the policy flags in fs:
//
//	--serverless              true or false
//	--faas-provider           one of faas.KnownNames
//	--faas-aws-region         for aws-lambda
//	--faas-gcp-project        for gcp-functions
//	--faas-gcp-region         for gcp-functions
//	--faas-azure-subscription for azure-functions
//	--faas-azure-region       for azure-functions
//	--faas-custom-endpoint    for custom
//	--faas-memory             MB
//	--faas-timeout            seconds
//	--faas-max-concurrency    0 for the provider's own limit
//	--faas-keep-warm          0 for none
//	--serverless-fallback     true or false
//
// All flags take a value. After fs is parsed, [PolicyFlags.Apply] changes a policy.
func BindPolicyFlags(fs *flag.FlagSet) *PolicyFlags {
	f := &PolicyFlags{}
	boolean := func(name, usage string, to **bool) {
		// Not a boolean flag of package flag, which would parse "--serverless true" as a switch and an
		// argument.
		fs.Func(name, usage, func(text string) error {
			v, err := strconv.ParseBool(text)
			if err != nil {
				return errors.New("must be true or false")
			}
			*to = &v
			return nil
		})
	}
	number := func(name, usage string, least int, to **uint32) {
		fs.Func(name, usage, func(text string) error {
			n, err := strconv.ParseUint(text, 10, 32)
			if err != nil {
				return fmt.Errorf("must be a whole number, at least %d", least)
			}
			v := uint32(n)
			*to = &v
			return nil
		})
	}
	text := func(name, usage string, to **string) {
		// Apply checks the value: an error from here would show the password of an endpoint.
		fs.Func(name, usage, func(v string) error {
			*to = &v
			return nil
		})
	}
	boolean(flagEnable, "run jobs on a serverless platform: `true or false`", &f.enable)
	text(flagProvider, "the `provider`: "+strings.Join(faas.KnownNames(), ", "), &f.provider)
	text(flagAWSRegion, "AWS `region`, for aws-lambda (default "+defaultAWSRegion+")", &f.awsRegion)
	text(flagProject, "Google Cloud `project`, for gcp-functions", &f.project)
	text(flagGCPRegion, "Google Cloud `region`, for gcp-functions", &f.gcpRegion)
	text(flagSubscription, "Azure `subscription`, for azure-functions", &f.subscription)
	text(flagAzureRegion, "Azure `region`, for azure-functions", &f.azureRegion)
	text(flagEndpoint, "`URL` of the platform, for custom", &f.url)
	number(flagMemory, "memory of a function in `MB`", 1, &f.memory)
	number(flagTimeout, "time limit of one invocation in `seconds`", 1, &f.timeout)
	number(flagConcurrency, "most `invocations` of one function at a time; 0: the provider's own limit", 0, &f.concurrency)
	number(flagWarm, "`instances` of each function that are kept ready, which most providers bill; 0: none", 0, &f.warm)
	boolean(flagFallback, "fall back to VMs if serverless fails: `true or false`", &f.fallback)
	return f
}

// Apply changes p by the flags that were given; without flags it does nothing. If a flag changes
// the provider, the settings and options of the old provider are dropped. Apply returns
// ErrInvalidArgument and leaves p unchanged if a flag does not belong to the provider, or if the
// policy would not be valid.
func (f *PolicyFlags) Apply(p *Policy) error {
	if *f == (PolicyFlags{}) {
		return nil
	}
	s := p.Serverless
	if f.provider != nil && *f.provider != s.Provider.Type {
		s.Provider = ProviderSettings{Type: *f.provider}
		s.ProviderConfig = nil
	}
	// Check the provider first: an unknown provider explains why the other flags do not fit.
	if problem := (ProviderSettings{Type: s.Provider.Type}).problem(); problem != nil && problem.path[2] == "type" {
		return flagError(problem, f)
	}
	for _, own := range []struct {
		flag, provider string
		value          *string
		to             *string
	}{
		{flagAWSRegion, faas.AWSLambda, f.awsRegion, &s.Provider.Region},
		{flagGCPRegion, faas.GCPFunctions, f.gcpRegion, &s.Provider.Region},
		{flagAzureRegion, faas.AzureFunctions, f.azureRegion, &s.Provider.Region},
		{flagProject, faas.GCPFunctions, f.project, &s.Provider.ProjectID},
		{flagSubscription, faas.AzureFunctions, f.subscription, &s.Provider.SubscriptionID},
		{flagEndpoint, faas.Custom, f.url, &s.Provider.Endpoint},
	} {
		switch {
		case own.value == nil:
		case s.Provider.Type != own.provider:
			return faas.Errorf(faas.ErrInvalidArgument, "apply flags", "",
				"--%s is for %s, and the provider is %s: drop it, or add --%s %s",
				own.flag, own.provider, s.Provider.Type, flagProvider, own.provider)
		case *own.value == "":
			return faas.Errorf(faas.ErrInvalidArgument, "apply flags", "", "--%s is empty", own.flag)
		default:
			*own.to = *own.value
		}
	}
	setIf(&s.Enable, f.enable)
	setIf(&s.FallbackToVM, f.fallback)
	setIf(&s.DefaultMemoryMB, f.memory)
	setIf(&s.DefaultTimeoutSecs, f.timeout)
	setIf(&s.MaxConcurrency, f.concurrency)
	setIf(&s.KeepWarm, f.warm)
	s = s.normal()
	if problem := s.problem(); problem != nil {
		return flagError(problem, f)
	}
	p.Serverless = s
	return nil
}

func setIf[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// flagError names the flag that sets or would correct the field of a problem.
func flagError(problem *policyProblem, f *PolicyFlags) error {
	name := problem.path[len(problem.path)-1]
	if slices.Contains(problem.path, "jobs") {
		name = "" // no flag sets the settings of a single job
	}
	flagName, given := "", false
	switch name {
	case "type":
		flagName, given = flagProvider, f.provider != nil
	case "region":
		switch {
		case f.gcpRegion != nil:
			flagName, given = flagGCPRegion, true
		case f.azureRegion != nil:
			flagName, given = flagAzureRegion, true
		default:
			flagName, given = flagAWSRegion, f.awsRegion != nil
		}
	case "project_id":
		flagName, given = flagProject, true // if it is missing, this is the flag to add
	case "subscription_id":
		flagName, given = flagSubscription, true
	case "endpoint":
		flagName, given = flagEndpoint, true
	case "default_memory_mb":
		flagName, given = flagMemory, f.memory != nil
	case "default_timeout_secs":
		flagName, given = flagTimeout, f.timeout != nil
	case "max_concurrency":
		flagName, given = flagConcurrency, f.concurrency != nil
	case "keep_warm":
		flagName, given = flagWarm, f.warm != nil
	}
	cause := &PolicyError{Field: strings.Join(problem.path, "."), Err: problem.err}
	switch {
	case given:
		cause.Field = "--" + flagName
	case flagName != "":
		cause.Err = fmt.Errorf("%w: set it with --%s", problem.err, flagName)
	}
	return policyErrorf(faas.ErrInvalidArgument, "apply flags", cause)
}
