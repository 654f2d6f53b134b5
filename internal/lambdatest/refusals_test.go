package lambdatest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"
)

// tester drives a server with Lambda's official client.
type tester struct {
	*testing.T
	server *Server
	client *lambda.Client
	zip    []byte
}

// atOnce configures a Lambda whose states take no time.
func atOnce(cfg Config) Config {
	cfg.Pending, cfg.Updating = -1, -1
	if cfg.Handler == nil {
		cfg.Handler = func(i Invocation) Answer { return Answer{Payload: []byte(`"` + i.Version + `"`)} }
	}
	return cfg
}

func newTester(t *testing.T, cfg Config) tester {
	t.Helper()
	server, clients := start(t, cfg)
	return tester{t, server, lambda.NewFromConfig(clients), packed(t, "bootstrap", "x")}
}

func (t tester) creation(name string) *lambda.CreateFunctionInput {
	return &lambda.CreateFunctionInput{
		FunctionName: &name, Role: aws.String(t.server.RoleARN()), Runtime: types.RuntimeProvidedal2023,
		Handler: aws.String("bootstrap"), Code: &types.FunctionCode{ZipFile: t.zip},
	}
}

// create makes a function with the given number of versions.
func (t tester) create(name string, versions int) {
	t.Helper()
	_, err := t.client.CreateFunction(t.Context(), t.creation(name))
	wantCode(t.T, "create", err, "")
	for i := range versions {
		if i > 0 {
			_, err := t.client.UpdateFunctionConfiguration(t.Context(),
				&lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Timeout: aws.Int32(int32(3 + i))})
			wantCode(t.T, "update", err, "")
		}
		_, err := t.client.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: &name})
		wantCode(t.T, "publish", err, "")
	}
}

func (t tester) alias(function, name, version string) {
	t.Helper()
	_, err := t.client.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: &function, Name: &name,
		FunctionVersion: &version})
	wantCode(t.T, "alias", err, "")
}

func (t tester) move(function, name, version string) {
	t.Helper()
	_, err := t.client.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: &function, Name: &name,
		FunctionVersion: &version})
	wantCode(t.T, "move", err, "")
}

func (t tester) provision(function, qualifier string, n int32) error {
	_, err := t.client.PutProvisionedConcurrencyConfig(t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{
		FunctionName: &function, Qualifier: &qualifier, ProvisionedConcurrentExecutions: &n,
	})
	return err
}

func (t tester) reserve(function string, n int32) error {
	_, err := t.client.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &function,
		ReservedConcurrentExecutions: &n})
	return err
}

func (t tester) invoke(function, qualifier string) (*lambda.InvokeOutput, error) {
	in := &lambda.InvokeInput{FunctionName: &function}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	return t.client.Invoke(t.Context(), in)
}

func (t tester) get(function string) *lambda.GetFunctionOutput {
	t.Helper()
	out, err := t.client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &function})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFunctionsThatLambdaRefuses(t *testing.T) {
	t.Parallel()
	type creation = lambda.CreateFunctionInput
	many := func(n int) map[string]string {
		all := map[string]string{}
		for i := range n {
			all[fmt.Sprintf("KEY_%d", i)] = "v"
		}
		return all
	}
	env := func(name, value string) *types.Environment {
		return &types.Environment{Variables: map[string]string{name: value}}
	}
	const bad = "InvalidParameterValueException"
	for _, test := range []struct {
		name       string
		change     func(*creation)
		code, text string
	}{
		{"the same name", func(in *creation) { in.FunctionName = aws.String("there") }, "ResourceConflictException",
			"already exist"},
		{"a long name", func(in *creation) { in.FunctionName = aws.String(strings.Repeat("x", 65)) }, bad,
			"less than or equal to 64"},
		{"no code", func(in *creation) { in.Code = &types.FunctionCode{} }, bad, "provide a source"},
		{"no package", func(in *creation) { in.Code = &types.FunctionCode{ZipFile: []byte("x")} }, bad, "Could not unzip"},
		{"no runtime", func(in *creation) { in.Runtime = "" }, bad, "Runtime and Handler are mandatory"},
		{"a reserved variable", func(in *creation) { in.Environment = env("AWS_REGION", "x") }, bad, "reserved keys"},
		{"a variable of one letter", func(in *creation) { in.Environment = env("X", "x") }, "ValidationException",
			"[a-zA-Z]"},
		{"4 KB of variables", func(in *creation) { in.Environment = env("AB", strings.Repeat("x", 4090)) }, bad, "4KB limit"},
		{"nearly 4 KB of variables", func(in *creation) { in.Environment = env("AB", strings.Repeat("x", 4087)) }, "", ""},
		{"51 tags", func(in *creation) { in.Tags = many(51) }, bad, "50 tags"},
		{"a tag of AWS", func(in *creation) { in.Tags = map[string]string{"aws:x": "y"} }, bad, "not allowed"},
		{"six layers", func(in *creation) {
			for i := range 6 {
				in.Layers = append(in.Layers, fmt.Sprintf("arn:aws:lambda:us-east-1:123456789012:layer:l:%d", i+1))
			}
		}, bad, "5 layers"},
		{"a role of another account", func(in *creation) { in.Role = aws.String("arn:aws:iam::999999999999:role/x") },
			"AccessDeniedException", "Cross-account"},
		{"what is not a role", func(in *creation) { in.Role = aws.String("arn:aws:iam::123456789012:user/x") },
			"ValidationException", "role"},
		{"a role that Lambda cannot assume",
			func(in *creation) { in.Role = aws.String("arn:aws:iam::123456789012:role/unknown") }, bad, "cannot be assumed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newTester(t, atOnce(Config{UnknownRoles: []string{"arn:aws:iam::123456789012:role/unknown"}}))
			l.create("there", 0)
			in := l.creation("fresh")
			test.change(in)
			_, err := l.client.CreateFunction(t.Context(), in)
			wantCode(t, "create", err, test.code)
			if err != nil {
				wantText(t, "create", err, test.text)
			}
		})
	}
}

func TestChangesDuringATransition(t *testing.T) {
	t.Parallel()
	const conflict = "ResourceConflictException"
	l := newTester(t, Config{Pending: time.Hour, Updating: time.Hour, Handler: func(i Invocation) Answer {
		return Answer{Payload: []byte(`"` + i.Env["VALUE"] + `"`)}
	}})
	l.create("f", 0)
	ctx, name := t.Context(), aws.String("f")
	changes := map[string]func() error{
		"UpdateFunctionCode": func() error {
			_, err := l.client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: name, ZipFile: l.zip})
			return err
		},
		"UpdateFunctionConfiguration": func() error {
			_, err := l.client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: name,
				Timeout: aws.Int32(9)})
			return err
		},
		"PublishVersion": func() error {
			_, err := l.client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name})
			return err
		},
	}
	for what, change := range changes {
		wantText(t, what, change(), "currently in the following state: Pending")
	}
	_, err := l.invoke("f", "")
	wantCode(t, "invoke what is pending", err, conflict)
	_, err = l.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name})
	wantCode(t, "delete what is pending", err, conflict)

	l.server.functions["f"].until = time.Now() // it is active
	revision := l.get("f").Configuration.RevisionId
	update := &lambda.UpdateFunctionConfigurationInput{
		FunctionName: name, MemorySize: aws.Int32(999), RevisionId: aws.String("00000000-0000-4000-8000-000000000000"),
		Environment: &types.Environment{Variables: map[string]string{"VALUE": "new"}},
	}
	_, err = l.client.UpdateFunctionConfiguration(ctx, update)
	wantCode(t, "update another revision", err, "PreconditionFailedException")
	update.RevisionId = revision
	_, err = l.client.UpdateFunctionConfiguration(ctx, update)
	wantCode(t, "update", err, "")
	if c := l.get("f").Configuration; c.LastUpdateStatus != types.LastUpdateStatusInProgress || *c.MemorySize != 999 {
		t.Errorf("status %s, memory %d", c.LastUpdateStatus, *c.MemorySize)
	}
	if out, err := l.invoke("f", ""); err != nil || string(out.Payload) != `""` {
		t.Errorf("while the update is in progress, an invocation answers %+v, %v", out, err)
	}
	for what, change := range changes {
		wantText(t, what, change(), "An update is in progress for resource: arn:aws:lambda:us-east-1:123456789012:function:f")
	}
	l.server.Fail("f", "InsufficientRolePermissions", "The role has no rights.")
	l.server.functions["f"].until = time.Now()
	want := []any{types.LastUpdateStatusFailed, types.LastUpdateStatusReasonCodeInsufficientRolePermissions,
		"The role has no rights.", int32(128), types.StateActive}
	c := l.get("f").Configuration
	if got := []any{c.LastUpdateStatus, c.LastUpdateStatusReasonCode, *c.LastUpdateStatusReason, *c.MemorySize,
		c.State}; !cmp.Equal(got, want) {
		t.Error(cmp.Diff(want, got))
	}
}

// A role becomes known to IAM, to Lambda and to the services behind Lambda one after another.
func TestRolesThatAreYoung(t *testing.T) {
	t.Parallel()
	l := newTester(t, atOnce(Config{RoleDelay: time.Hour, RoleGrant: time.Hour, RoleLate: time.Hour}))
	ctx := t.Context()
	arn := l.server.CreateRole("young", lambdaTrust)
	r := l.server.roleOf(arn)
	r.policies["p"] = nobody
	in := l.creation("f")
	in.Role, in.Environment = &arn, &types.Environment{Variables: map[string]string{"SECRET": "x"}}
	network := *in
	network.Environment, network.VpcConfig = nil, &types.VpcConfig{SubnetIds: []string{"subnet-1"},
		SecurityGroupIds: []string{"sg-1"}}
	for _, step := range []struct {
		age                          time.Duration
		environment, network, policy string
	}{
		{0, "cannot be assumed by Lambda", "cannot be assumed by Lambda", "ec2:CreateNetworkInterface"},
		{time.Hour, "KMS key is invalid for CreateGrant", "permissions to call CreateNetworkInterface",
			"ec2:CreateNetworkInterface"},
		{2 * time.Hour, "", "permissions to call CreateNetworkInterface", "ec2:DescribeSubnets"},
	} {
		r.created = time.Now().Add(-step.age)
		r.policies["p"] = `{"Statement":[{"Action":["` + step.policy + `"]}]}`
		_, err := l.client.CreateFunction(ctx, &network)
		wantText(t, fmt.Sprint("with a network after ", step.age), err, step.network)
		_, err = l.client.CreateFunction(ctx, in)
		wantText(t, fmt.Sprint("with an environment after ", step.age), err, step.environment)
	}
	if c := l.get("f").Configuration; c.State != types.StateFailed ||
		c.StateReasonCode != types.StateReasonCodeInsufficientRolePermissions {
		t.Errorf("the function is %s: %s", c.State, c.StateReasonCode)
	}
	_, err := l.invoke("f", "")
	wantText(t, "invoke what failed", err, "state: Failed")
	_, err = l.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("f")})
	wantCode(t, "delete what failed", err, "")
	r.created = time.Now().Add(-3 * time.Hour)
	_, err = l.client.CreateFunction(ctx, in)
	wantCode(t, "create", err, "")
	_, err = l.invoke("f", "")
	wantCode(t, "invoke", err, "")

	// A role that was made again is another role.
	l.server.ReplaceRole("young")
	_, err = l.invoke("f", "")
	wantCode(t, "invoke with a role made again", err, "KMSAccessDeniedException")
	_, err = l.client.UpdateFunctionConfiguration(ctx,
		&lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Role: &arn})
	wantCode(t, "set the role anew", err, "")
	_, err = l.invoke("f", "")
	wantCode(t, "invoke", err, "")
	delete(l.server.roles, "young")
	_, err = l.invoke("f", "")
	wantCode(t, "invoke without the role", err, "AccessDeniedException")
}

func TestConcurrencyThatLambdaRefuses(t *testing.T) {
	t.Parallel()
	l := newTester(t, atOnce(Config{Concurrency: 300}))
	ctx := t.Context()
	l.create("f", 3)
	l.alias("f", "live", "1")
	wantText(t, "more than the account has", l.reserve("f", 201), "below its minimum value of [100]")
	wantCode(t, "reserve", l.reserve("f", 200), "")
	wantText(t, "provision more than is reserved", l.provision("f", "live", 201),
		"greater than the reservedConcurrentExecution")
	_, err := l.client.DeleteFunctionConcurrency(ctx,
		&lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String("f")})
	wantCode(t, "reserve no more", err, "")
	wantText(t, "provision more than the account has", l.provision("f", "live", 201), "below its minimum value of [100]")
	wantText(t, "provision $LATEST", l.provision("f", "$LATEST", 1), "unpublished")
	wantCode(t, "provision what is not there", l.provision("f", "9", 1), "ResourceNotFoundException")
	wantCode(t, "provision", l.provision("f", "live", 20), "")
	wantText(t, "provision its version, too", l.provision("f", "1", 1), "pointed to by a Provisioned Concurrency alias")
	wantCode(t, "provision another version", l.provision("f", "2", 5), "")
	l.alias("f", "next", "2")
	wantText(t, "provision its alias, too", l.provision("f", "next", 1), "already Provisioned version")
	wantText(t, "reserve less than is provisioned", l.reserve("f", 24),
		"should not be lower than function's total provisioned concurrency [25]")
	_, err = l.client.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"),
		FunctionVersion: aws.String("$LATEST")})
	wantText(t, "point to what is unpublished", err, "unpublished")
	settings, err := l.client.GetAccountSettings(ctx, nil)
	if err != nil || *settings.AccountLimit.UnreservedConcurrentExecutions != 275 {
		t.Errorf("%+v, %v", settings, err)
	}
	l.server.FailProvisioned("f", "live", "FUNCTION_ERROR_INIT_FAILURE")
	got, err := l.client.GetProvisionedConcurrencyConfig(ctx,
		&lambda.GetProvisionedConcurrencyConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("live")})
	if err != nil || got.Status != types.ProvisionedConcurrencyStatusEnumFailed ||
		*got.StatusReason != "FUNCTION_ERROR_INIT_FAILURE" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, qualifier := range []string{"live", "2"} {
		in := &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: aws.String("f"), Qualifier: &qualifier}
		_, err = l.client.DeleteProvisionedConcurrencyConfig(ctx, in)
		wantCode(t, "provision no more", err, "")
		_, err = l.client.DeleteProvisionedConcurrencyConfig(ctx, in)
		wantCode(t, "provision no more again", err, "ProvisionedConcurrencyConfigNotFoundException")
	}
}

// Running invocations hold their places until they are released.
func TestInvocationsThatAreThrottled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                            string
		concurrency, reserved, warm     int
		running, qualifier, want, other string
	}{
		{"provisioned fills what is reserved", 1000, 2, 2, "", "2", "ReservedFunctionConcurrentInvocationLimitExceeded", ""},
		{"the provisioned alias itself is served", 1000, 2, 2, "", "live", "", ""},
		{"what is reserved runs", 1000, 1, 0, "live", "2", "ReservedFunctionConcurrentInvocationLimitExceeded", ""},
		{"nothing is reserved", 1000, 0, 0, "", "live", "ReservedFunctionConcurrentInvocationLimitExceeded", ""},
		{"the account is busy", 1, -1, 0, "live", "2", "ConcurrentInvocationLimitExceeded",
			"ConcurrentInvocationLimitExceeded"},
		{"others have a reservation", 101, 1, 0, "live", "live", "ReservedFunctionConcurrentInvocationLimitExceeded", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			started, release := make(chan struct{}), make(chan struct{})
			block := true
			l := newTester(t, atOnce(Config{Concurrency: test.concurrency, Handler: func(Invocation) Answer {
				if block {
					block = false
					close(started)
					<-release
				}
				return Answer{Payload: []byte("1")}
			}}))
			l.create("f", 2)
			l.create("other", 0)
			l.alias("f", "live", "1")
			if test.reserved >= 0 {
				wantCode(t, "reserve", l.reserve("f", int32(test.reserved)), "")
			}
			if test.warm > 0 {
				wantCode(t, "provision", l.provision("f", "live", int32(test.warm)), "")
			}
			done := make(chan error, 1)
			if test.running != "" {
				go func() {
					_, err := l.invoke("f", test.running)
					done <- err
				}()
				<-started
			} else {
				block = false
				done <- nil
			}
			for function, want := range map[string]string{"f": test.want, "other": test.other} {
				qualifier := test.qualifier
				if function == "other" {
					qualifier = ""
				}
				_, err := l.invoke(function, qualifier)
				var throttled *types.TooManyRequestsException
				if (want != "" || err != nil) && (!errors.As(err, &throttled) || string(throttled.Reason) != want) {
					t.Errorf("%s: %v, want %q", function, err, want)
				}
			}
			close(release)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAliasesThatMove(t *testing.T) {
	t.Parallel()
	l := newTester(t, atOnce(Config{MovingAlias: time.Hour}))
	ctx, function, live := t.Context(), aws.String("f"), aws.String("live")
	l.create("f", 3)
	l.alias("f", "live", "1")
	l.move("f", "live", "2")
	get := func() *lambda.GetAliasOutput {
		t.Helper()
		a, err := l.client.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: function, Name: live})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := get(); a.RoutingConfig != nil {
		t.Errorf("without provisioned concurrency it moves: %+v", a)
	}
	wantCode(t, "provision", l.provision("f", "live", 1), "")
	l.move("f", "live", "3")
	if a := get(); a.RoutingConfig == nil || a.RoutingConfig.AdditionalVersionWeights["2"] == 0 {
		t.Errorf("the alias does not tell that it moves: %+v", a)
	}
	executed := map[string]bool{}
	for range 50 { // half of them go to the old version
		out, err := l.invoke("f", "live")
		if err != nil {
			t.Fatal(err)
		}
		executed[*out.ExecutedVersion] = true
	}
	if got := slices.Sorted(maps.Keys(executed)); !cmp.Equal(got, []string{"2", "3"}) {
		t.Errorf("versions %v ran", got)
	}
	const weights = "Alias with weights can not be used with Provisioned Concurrency"
	wantText(t, "provision while it moves", l.provision("f", "live", 2), weights)
	_, err := l.client.DeleteProvisionedConcurrencyConfig(ctx,
		&lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: function, Qualifier: live})
	wantText(t, "provision no more while it moves", err, weights)
	_, err = l.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: function})
	wantText(t, "delete while it moves", err, "An update is in progress")
	for version, text := range map[string]string{"2": "aliases reference it", "3": "aliases reference it",
		"$LATEST": "$LATEST version cannot be deleted", "7": "not found"} {
		_, err := l.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: function, Qualifier: &version})
		wantText(t, "delete version "+version, err, text)
	}
	l.server.functions["f"].aliases["live"].moving = time.Now()
	wantCode(t, "provision", l.provision("f", "live", 2), "")
	update := &lambda.UpdateAliasInput{FunctionName: function, Name: live, RevisionId: aws.String("else")}
	_, err = l.client.UpdateAlias(ctx, update)
	wantCode(t, "update another revision", err, "PreconditionFailedException")
	for _, test := range []struct {
		weights map[string]float64
		code    string
	}{
		{map[string]float64{"3": 0.5}, "InvalidParameterValueException"},
		{map[string]float64{"1": 0.5, "2": 0.1}, "InvalidParameterValueException"},
		{map[string]float64{"8": 0.5}, "ResourceNotFoundException"},
		{map[string]float64{"1": 0.5}, ""},
	} {
		_, err := l.client.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: function, Name: live,
			RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: test.weights}})
		wantCode(t, fmt.Sprint("weights ", test.weights), err, test.code)
	}
	for version, n := range map[string]int{"3": 1, "2": 0} {
		list, err := l.client.ListAliases(ctx, &lambda.ListAliasesInput{FunctionName: function, FunctionVersion: &version})
		if err != nil || len(list.Aliases) != n {
			t.Errorf("aliases of version %s: %+v, %v", version, list, err)
		}
	}
	for name, code := range map[string]string{"live": "ResourceConflictException", "12": "ValidationException"} {
		_, err := l.client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: function, Name: &name,
			FunctionVersion: aws.String("1")})
		wantCode(t, "alias "+name, err, code)
	}
	_, err = l.client.DeleteAlias(ctx, &lambda.DeleteAliasInput{FunctionName: function, Name: live})
	wantCode(t, "delete the alias", err, "")
	if st, _ := l.server.Function("f"); len(st.Provisioned) != 0 {
		t.Errorf("the alias is gone, and its provisioned concurrency is not: %v", st.Provisioned)
	}
}

func TestReadsThatAreBehind(t *testing.T) {
	t.Parallel()
	l := newTester(t, atOnce(Config{StaleReads: 1, NewAlias: 1}))
	ctx, name := t.Context(), aws.String("f")
	look := func() string {
		out, err := l.client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name})
		if err != nil {
			return "none"
		}
		reserved := "no"
		if out.Concurrency != nil {
			reserved = fmt.Sprint(*out.Concurrency.ReservedConcurrentExecutions)
		}
		return fmt.Sprint(*out.Configuration.Timeout, " s, ", len(out.Tags), " tags, ", reserved, " reserved")
	}
	versions := func() string {
		out, err := l.client.ListVersionsByFunction(ctx, &lambda.ListVersionsByFunctionInput{FunctionName: name})
		if err != nil {
			return "none"
		}
		return fmt.Sprint(len(out.Versions))
	}
	list := func() string {
		out, err := l.client.ListFunctions(ctx, &lambda.ListFunctionsInput{})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(len(out.Functions))
	}
	arn := aws.String(l.server.arn("f"))
	for _, step := range []struct {
		name          string
		change        func() error
		look          func() string
		before, after string
	}{
		{"create", func() error { _, err := l.client.CreateFunction(ctx, l.creation("f")); return err }, look, "none",
			"3 s, 0 tags, no reserved"},
		{"update", func() error {
			_, err := l.client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: name,
				Timeout: aws.Int32(4)})
			return err
		}, look, "3 s, 0 tags, no reserved", "4 s, 0 tags, no reserved"},
		{"tag", func() error {
			_, err := l.client.TagResource(ctx, &lambda.TagResourceInput{Resource: arn, Tags: map[string]string{"a": "b"}})
			return err
		}, look, "4 s, 0 tags, no reserved", "4 s, 1 tags, no reserved"},
		{"reserve", func() error { return l.reserve("f", 7) }, look, "4 s, 1 tags, no reserved", "4 s, 1 tags, 7 reserved"},
		{"untag", func() error {
			_, err := l.client.UntagResource(ctx, &lambda.UntagResourceInput{Resource: arn, TagKeys: []string{"a"}})
			return err
		}, look, "4 s, 1 tags, 7 reserved", "4 s, 0 tags, 7 reserved"},
		{"publish", func() error {
			_, err := l.client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name})
			return err
		}, versions, "1", "2"},
		{"alias", func() error {
			_, err := l.client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: name, Name: aws.String("live"),
				FunctionVersion: aws.String("1")})
			return err
		}, func() string {
			_, err := l.invoke("f", "live")
			return fmt.Sprint(err == nil)
		}, "false", "true"},
		{"delete", func() error {
			_, err := l.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name})
			return err
		}, look, "4 s, 0 tags, 7 reserved", "none"},
		{"create again", func() error {
			_, err := l.client.CreateFunction(ctx, l.creation("f"))
			return err
		}, list, "0", "1"},
		{"delete again", func() error {
			_, err := l.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name})
			return err
		}, list, "1", "0"},
	} {
		wantCode(t, step.name, step.change(), "")
		if before, after := step.look(), step.look(); before != step.before || after != step.after {
			t.Errorf("%s: first %s and then %s, want %s and %s", step.name, before, after, step.before, step.after)
		}
	}
}

func TestPayloadsAtTheLimit(t *testing.T) {
	t.Parallel()
	l := newTester(t, atOnce(Config{Handler: func(i Invocation) Answer {
		return Answer{Payload: append(i.Payload[:len(i.Payload)-1], []byte(strings.Repeat("x", 100)+`"`)...)}
	}}))
	l.create("f", 0)
	call := func(size int, kind types.InvocationType) (*lambda.InvokeOutput, error) {
		payload := bytes.Repeat([]byte("x"), size)
		payload[0], payload[size-1] = '"', '"'
		return l.client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: payload,
			InvocationType: kind})
	}
	for _, test := range []struct {
		size int
		kind types.InvocationType
		code string
	}{
		{6 << 20, "", ""}, {6<<20 + 1, "", "RequestTooLargeException"},
		{1 << 20, "Event", ""}, {1<<20 + 1, "Event", "RequestTooLargeException"},
	} {
		_, err := call(test.size, test.kind)
		wantCode(t, fmt.Sprint(test.kind, test.size), err, test.code)
	}
	l.server.config.Handler = func(i Invocation) Answer {
		return Answer{Payload: append(bytes.Repeat([]byte("1"), 6<<20), i.Payload...)}
	}
	for size, kind := range map[int]string{100: "", 101: "Unhandled"} {
		out, err := call(size, "")
		if err != nil || aws.ToString(out.FunctionError) != kind {
			t.Errorf("an answer of 6 MB and %d: %v, %v", size, out, err)
		}
	}
	_, err := l.client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte("{")})
	wantCode(t, "no JSON", err, "InvalidRequestContentException")
}

func TestTheAccountsRoomForCode(t *testing.T) {
	t.Parallel()
	l := newTester(t, atOnce(Config{}))
	l.server.config.CodeUsed = maxCode - 2*int64(len(l.zip))
	ctx, name := t.Context(), aws.String("f")
	l.create("f", 1)
	_, err := l.client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name})
	wantCode(t, "publish the same", err, "")
	_, err = l.client.CreateFunction(ctx, l.creation("g"))
	wantCode(t, "create", err, "CodeStorageExceededException")
	more := packed(t, "bootstrap", "more and more")
	_, err = l.client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: name, ZipFile: more})
	wantCode(t, "update", err, "CodeStorageExceededException")
	_, err = l.client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: name,
		Timeout: aws.Int32(4)})
	wantCode(t, "update the timeout", err, "")
	_, err = l.client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name})
	wantCode(t, "publish", err, "CodeStorageExceededException")
	_, err = l.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name, Qualifier: aws.String("1")})
	wantCode(t, "delete the version", err, "")
	_, err = l.client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name})
	wantCode(t, "publish with room", err, "")
}

func TestWhatGetFunctionTells(t *testing.T) {
	t.Parallel()
	l := newTester(t, atOnce(Config{TagsError: "AccessDeniedException", LastModified: "2006-01-02T15:04:05.000000-07:00"}))
	l.create("f", 1)
	l.alias("f", "live", "1")
	got := l.get("f")
	if got.TagsError == nil || *got.TagsError.ErrorCode != "AccessDeniedException" || got.Tags != nil {
		t.Errorf("tags %v, error %+v", got.Tags, got.TagsError)
	}
	if _, err := time.Parse(l.server.config.LastModified, *got.Configuration.LastModified); err != nil {
		t.Error(err)
	}
	for qualifier, version := range map[string]string{"live": "1", "1": "1", "$LATEST": "$LATEST"} {
		out, err := l.client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f"),
			Qualifier: &qualifier})
		if err != nil || *out.Configuration.Version != version ||
			*out.Configuration.FunctionArn != l.server.arn("f")+":"+qualifier || out.TagsError != nil {
			t.Errorf("%s: %+v, %v", qualifier, out.Configuration, err)
		}
	}
	before := *got.Configuration.CodeSha256
	_, err := l.client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"),
		ZipFile: packed(t, "bootstrap", "y"), DryRun: true})
	wantCode(t, "a dry run", err, "")
	if after := *l.get("f").Configuration.CodeSha256; after != before {
		t.Error("a dry run changed the code")
	}
	l.server.Sleep("f")
	_, err = l.invoke("f", "live")
	wantText(t, "invoke what sleeps", err, "state: Inactive")
}

// A fault reaches the client as the service's own answer would.
func TestFaults(t *testing.T) {
	t.Parallel()
	var fault atomic.Pointer[Fault]
	l := newTester(t, atOnce(Config{Fault: func(Call) *Fault { return fault.Load() }}))
	l.create("f", 0)
	fault.Store(&Fault{Status: 429, Code: "TooManyRequestsException", Message: "Rate Exceeded.", RetryAfter: "7",
		Reason: "FunctionInvocationRateLimitExceeded"})
	_, err := l.invoke("f", "")
	var throttled *types.TooManyRequestsException
	if !errors.As(err, &throttled) || aws.ToString(throttled.RetryAfterSeconds) != "7" ||
		throttled.Reason != types.ThrottleReasonFunctionInvocationRateLimitExceeded {
		t.Errorf("%+v", err)
	}
	fault.Store(&Fault{Status: 400, Code: "InvalidParameterValueException",
		Message: "Your request has been throttled by EC2, please make sure you have enough API rate limit."})
	_, err = l.invoke("f", "")
	wantText(t, "a text in place of a code", err, "InvalidParameterValueException: Your request has been throttled by EC2")
	for _, late := range []bool{false, true} {
		fault.Store(&Fault{Late: late})
		_, err = l.client.CreateFunction(t.Context(), l.creation(fmt.Sprint("late-", late)))
		if _, made := l.server.Function(fmt.Sprint("late-", late)); err == nil || made != late {
			t.Errorf("late %t: made %t, %v", late, made, err)
		}
	}
}
