//go:build !faas_only || faas_aws

package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// settings holds all of a function's configuration that this package decides. Lists whose order has
// no meaning are sorted.
type settings struct {
	Runtime          string
	Handler          string
	Description      string
	Role             string
	MemoryMB         int32
	TimeoutSecs      int32
	Env              map[string]string
	EphemeralMB      int32
	LogFormat        string
	Tracing          string
	SubnetIDs        []string
	SecurityGroupIDs []string
	Layers           []string
	KMSKeyArn        string
}

// wantedSettings returns the settings of a function to be deployed.
func (e *Executor) wantedSettings(f faas.Function, role string) settings {
	o := e.options
	return settings{
		Runtime: string(types.RuntimeProvidedal2023), Handler: bootstrapName, Description: describeJob(e.service, f.JobID),
		Role: role, MemoryMB: int32(f.MemoryMB), TimeoutSecs: int32(f.TimeoutSecs), Env: f.Env.Reveal(),
		EphemeralMB: int32(o.ephemeralStorageMB), LogFormat: o.logFormat,
		Tracing: o.tracing, SubnetIDs: sorted(o.subnetIDs), SecurityGroupIDs: sorted(o.securityGroupIDs), Layers: o.layers,
		KMSKeyArn: o.kmsKeyArn,
	}
}

// settingsOf reads the settings of a function or version. A field that the answer lacks has the
// default that Lambda documents.
func settingsOf(c *types.FunctionConfiguration) settings {
	s := settings{
		Runtime: string(c.Runtime), Handler: aws.ToString(c.Handler), Description: aws.ToString(c.Description),
		Role: aws.ToString(c.Role), MemoryMB: aws.ToInt32(c.MemorySize), TimeoutSecs: aws.ToInt32(c.Timeout),
		EphemeralMB: 512, LogFormat: "Text",
		Tracing: "PassThrough", KMSKeyArn: aws.ToString(c.KMSKeyArn),
	}
	if c.Environment != nil {
		s.Env = c.Environment.Variables
	}
	if c.EphemeralStorage != nil && c.EphemeralStorage.Size != nil {
		s.EphemeralMB = *c.EphemeralStorage.Size
	}
	if c.LoggingConfig != nil && c.LoggingConfig.LogFormat != "" {
		s.LogFormat = string(c.LoggingConfig.LogFormat)
	}
	if c.TracingConfig != nil && c.TracingConfig.Mode != "" {
		s.Tracing = string(c.TracingConfig.Mode)
	}
	if c.VpcConfig != nil {
		s.SubnetIDs, s.SecurityGroupIDs = sorted(c.VpcConfig.SubnetIds), sorted(c.VpcConfig.SecurityGroupIds)
	}
	for _, l := range c.Layers {
		s.Layers = append(s.Layers, aws.ToString(l.Arn))
	}
	return s
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// agrees reports whether a function has the settings that can be compared at once. It is for
// waiting until a change can be read.
func (s settings) agrees(c *types.FunctionConfiguration) bool {
	has := settingsOf(c)
	return has.Runtime == s.Runtime && has.Handler == s.Handler && has.Description == s.Description &&
		has.MemoryMB == s.MemoryMB && has.TimeoutSecs == s.TimeoutSecs &&
		(c.Environment == nil || c.Environment.Error != nil || maps.Equal(has.Env, s.Env))
}

// creation returns the request that creates a function with the settings, without its code.
func (s settings) creation(name, architecture string) *lambda.CreateFunctionInput {
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, Description: &s.Description, Role: &s.Role, Runtime: types.Runtime(s.Runtime),
		Handler:     &s.Handler,
		PackageType: types.PackageTypeZip, Architectures: []types.Architecture{types.Architecture(architecture)},
		MemorySize: &s.MemoryMB,
		Timeout:    &s.TimeoutSecs, Layers: s.Layers,
	}
	if len(s.Env) > 0 {
		in.Environment = &types.Environment{Variables: s.Env}
	}
	if s.EphemeralMB != 512 {
		in.EphemeralStorage = &types.EphemeralStorage{Size: &s.EphemeralMB}
	}
	if s.LogFormat != "Text" {
		in.LoggingConfig = &types.LoggingConfig{LogFormat: types.LogFormat(s.LogFormat)}
	}
	if s.Tracing != "PassThrough" {
		in.TracingConfig = &types.TracingConfig{Mode: types.TracingMode(s.Tracing)}
	}
	if len(s.SubnetIDs) > 0 {
		in.VpcConfig = &types.VpcConfig{SubnetIds: s.SubnetIDs, SecurityGroupIds: s.SecurityGroupIDs}
	}
	if s.KMSKeyArn != "" {
		in.KMSKeyArn = &s.KMSKeyArn
	}
	return in
}

// changes returns the request that changes a function to these settings, with only what differs, or
// nil if nothing does.
func (s settings) changes(name string, c *types.FunctionConfiguration) *lambda.UpdateFunctionConfigurationInput {
	return s.update(name, c, false)
}

// update is like changes, but returns all settings if a read cannot be trusted.
func (s settings) update(name string, c *types.FunctionConfiguration,
	all bool) *lambda.UpdateFunctionConfigurationInput {
	has := settingsOf(c)
	in := &lambda.UpdateFunctionConfigurationInput{FunctionName: &name}
	differs := false
	set := func(different bool, apply func()) {
		if different || all {
			differs = true
			apply()
		}
	}
	set(has.Runtime != s.Runtime, func() { in.Runtime = types.Runtime(s.Runtime) })
	set(has.Handler != s.Handler, func() { in.Handler = &s.Handler })
	set(has.Description != s.Description, func() { in.Description = &s.Description })
	set(has.Role != s.Role, func() { in.Role = &s.Role })
	set(has.MemoryMB != s.MemoryMB, func() { in.MemorySize = &s.MemoryMB })
	set(has.TimeoutSecs != s.TimeoutSecs, func() { in.Timeout = &s.TimeoutSecs })
	envUnreadable := c.Environment != nil && c.Environment.Error != nil
	set(envUnreadable || !maps.Equal(has.Env, s.Env), func() {
		env := s.Env
		if env == nil {
			env = map[string]string{} // nil would leave what is there
		}
		in.Environment = &types.Environment{Variables: env}
	})
	set(has.EphemeralMB != s.EphemeralMB, func() { in.EphemeralStorage = &types.EphemeralStorage{Size: &s.EphemeralMB} })
	set(has.LogFormat != s.LogFormat, func() {
		in.LoggingConfig = &types.LoggingConfig{
			LogFormat: types.LogFormat(s.LogFormat)}
	})
	set(has.Tracing != s.Tracing, func() { in.TracingConfig = &types.TracingConfig{Mode: types.TracingMode(s.Tracing)} })
	set(!slices.Equal(has.SubnetIDs, s.SubnetIDs) || !slices.Equal(has.SecurityGroupIDs, s.SecurityGroupIDs), func() {
		in.VpcConfig = &types.VpcConfig{SubnetIds: notNil(s.SubnetIDs), SecurityGroupIds: notNil(s.SecurityGroupIDs)}
	})
	set(!slices.Equal(has.Layers, s.Layers), func() { in.Layers = notNil(s.Layers) })
	set(has.KMSKeyArn != s.KMSKeyArn, func() { in.KMSKeyArn = &s.KMSKeyArn })
	if !differs {
		return nil
	}
	return in
}

// notNil makes an empty list non-nil. An empty list is sent, and clears what is there.
func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// latestDigest identifies what Lambda reports about $LATEST and, if the options say that it is set
// here, about its reserved concurrency. It tells a function that we left so from one that an
// interrupted Converge or somebody else has changed since.
func (e *Executor) latestDigest(out *lambda.GetFunctionOutput) string {
	c := out.Configuration
	reserved := reservedOf(out)
	if !e.options.reservedConcurrency {
		reserved = nil
	}
	text, err := json.Marshal([]any{aws.ToString(c.CodeSha256), c.PackageType, c.Architectures, settingsOf(c), reserved})
	if err != nil {
		panic("aws: settings do not marshal: " + err.Error()) // numbers, strings, lists and maps of them always do
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

func describeJob(service string, jobID uint32) string {
	text := "Job " + strconv.FormatUint(uint64(jobID), 10) + " of blueprint service " + service
	return strings.ToValidUTF8(text[:min(len(text), 256)], "")
}
