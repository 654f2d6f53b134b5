package ec2

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// urlValid is how long the machine can fetch its binary: much longer than a machine takes to boot.
const urlValid = time.Hour

// errEnded says that a machine ended or was never seen.
var errEnded = errors.New("the machine has ended")

// note is the private part of a reference.
type note struct {
	Region   string    `json:"region"`
	Bucket   string    `json:"bucket"`
	Key      string    `json:"key"`
	Token    string    `json:"token"`
	Instance string    `json:"instance,omitempty"` // empty until the launch is answered
	Runs     string    `json:"runs"`               // identifies what it runs
	Since    time.Time `json:"since"`
	// Tells says that the console tells about the runner's health.
	Tells bool `json:"tells,omitempty"`
}

// runner is a machine that runs a service's binary.
type runner struct {
	orc      *Orchestrator
	note     note
	mayExist bool // a launch was sent and not refused
}

var (
	_ orchestrator.Detached    = (*runner)(nil)
	_ orchestrator.Uninvokable = (*runner)(nil)
)

// Ref returns what finds the runner again.
func (r *runner) Ref() orchestrator.Ref {
	private, err := json.Marshal(r.note)
	if err != nil { // a note is texts and a time of this age
		panic(err)
	}
	return orchestrator.Ref{Kind: Kind, ID: r.note.Token, Private: private}
}

func (r *runner) record(record func(orchestrator.Ref) error) error { return record(r.Ref()) }

// launch puts the binary into the bucket, launches the machine and waits until it runs.
func (r *runner) launch(ctx context.Context, spec orchestrator.Spec) error {
	c := r.orc.client
	image := r.orc.cfg.ImageID
	if image == "" {
		var err error
		if image, err = c.image(ctx, r.orc.arch); err != nil {
			return err
		}
	}
	if err := c.put(ctx, r.note, spec.Binary); err != nil {
		return fmt.Errorf("the binary could not be put into bucket %s: %w", r.note.Bucket, err)
	}
	link, err := c.presign(ctx, r.note, urlValid)
	if err != nil {
		return err
	}
	script, err := r.orc.cfg.userData(spec, link)
	if err != nil {
		return err
	}
	inst, err := r.run(ctx, r.orc.launch(spec, r.note.Token, image, script))
	if err != nil {
		return err
	}
	r.note.Instance = inst.ID
	if err := r.record(spec.Record); err != nil {
		return err
	}
	spec.Logger.Info("a machine was launched", "service", spec.Service, "instance", inst.ID, "type",
		r.orc.cfg.InstanceType)
	return r.await(ctx)
}

// run sends the launch until EC2 knows a new instance profile. It waits for an answer even if ctx
// ends, because the answer says what must be removed.
func (r *runner) run(ctx context.Context, in *ec2.RunInstancesInput) (*instance, error) {
	c := r.orc.client
	for deadline := time.Now().Add(c.pace.profile); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.mayExist = true
		answer, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.pace.answer)
		inst, lost, err := c.runInstance(answer, in)
		cancel()
		if err == nil {
			return inst, nil
		}
		if !lost {
			r.mayExist = false
		}
		// EC2 uses one code for all bad values. Only its text says that the profile is too new.
		fresh := awsclient.APICode(err) == "InvalidParameterValue" &&
			strings.Contains(strings.ToLower(err.Error()), "iam instance profile")
		if !fresh || time.Now().After(deadline) {
			return nil, err
		}
		if perr := pause(ctx, c.pace.poll); perr != nil {
			return nil, fmt.Errorf("%w; the last answer was: %w", perr, err)
		}
	}
}

// launch returns the request that launches a machine.
func (o *Orchestrator) launch(spec orchestrator.Spec, token, image, script string) *ec2.RunInstancesInput {
	in := &ec2.RunInstancesInput{
		ImageId: &image, InstanceType: types.InstanceType(o.cfg.InstanceType), MinCount: aws.Int32(1),
		MaxCount: aws.Int32(1), ClientToken: &token,
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(script))),
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpTokens: types.HttpTokensStateRequired, HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
		},
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
		SecurityGroupIds:                  o.cfg.SecurityGroupIDs,
	}
	if o.cfg.SubnetID != "" {
		in.SubnetId = &o.cfg.SubnetID
	}
	switch profile := o.cfg.InstanceProfile; {
	case strings.HasPrefix(profile, "arn:"):
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Arn: &profile}
	case profile != "":
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: &profile}
	}
	all := map[string]string{
		"Name": "blueprint-" + spec.Service, "blueprint:managed-by": "blueprint-serverless",
		"blueprint:service": spec.Service,
		"blueprint:id":      strconv.FormatUint(spec.BlueprintID, 10), "blueprint:client-token": token,
	}
	maps.Copy(all, o.cfg.Tags)
	var tags []types.Tag
	for _, key := range slices.Sorted(maps.Keys(all)) {
		tags = append(tags, types.Tag{Key: &key, Value: aws.String(all[key])})
	}
	for _, kind := range []types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeVolume} {
		in.TagSpecifications = append(in.TagSpecifications, types.TagSpecification{ResourceType: kind, Tags: tags})
	}
	return in
}

// find looks for the machine. EC2 may not show a new machine for some time; a patient find waits
// for that long. It returns nil if the machine does not exist.
func (r *runner) find(ctx context.Context, patient bool) (*instance, error) {
	c := r.orc.client
	for {
		inst, err := c.describe(ctx, r.note.Instance, r.note.Token)
		// If the clock was set back, wait no longer than the time that matters.
		age := max(time.Since(r.note.Since), 0)
		if err != nil || inst != nil || !patient || age > c.pace.settle {
			return inst, err
		}
		if err := pause(ctx, c.pace.poll); err != nil {
			return nil, err
		}
	}
}

// resume waits for the machine of an earlier deployment, and records its id if that was unknown. It
// returns errEnded if the machine does not exist.
func (r *runner) resume(ctx context.Context, record func(orchestrator.Ref) error) error {
	inst, err := r.find(ctx, true)
	switch {
	case err != nil:
		return err
	case inst == nil || inst.State != types.InstanceStateNamePending && inst.State != types.InstanceStateNameRunning:
		return errEnded
	}
	if r.note.Instance != inst.ID {
		r.note.Instance = inst.ID
		if err := r.record(record); err != nil {
			return err
		}
	}
	return r.await(ctx)
}

// await waits until the machine runs. It continues when looks fail for a while.
func (r *runner) await(ctx context.Context) error {
	c := r.orc.client
	begun := time.Now()
	var last error
	for {
		inst, err := c.describe(ctx, r.note.Instance, r.note.Token)
		switch {
		case err != nil && (ctx.Err() != nil || !passes(err)):
			return err
		case err != nil:
			last = err
		case inst == nil && time.Since(begun) > c.pace.settle:
			return fmt.Errorf("%w: EC2 knows nothing of %s, which it said to have launched", errEnded, r.note.Instance)
		case inst == nil, inst.State == types.InstanceStateNamePending:
			last = nil
		case inst.State == types.InstanceStateNameRunning:
			return nil
		default:
			return fmt.Errorf("%w: %s is %s%s%s", errEnded, inst.ID, inst.State, after(": ", inst.Reason),
				after("; its console ends with:\n", c.console(ctx, inst.ID, 2<<10)))
		}
		if time.Since(begun) > c.pace.start {
			if last != nil {
				return fmt.Errorf("whether machine %s runs is not known after %v: %w", r.note.Instance, c.pace.start, last)
			}
			return faas.Errorf(faas.ErrTimeout, opStart, "", "machine %s does not run after %v", r.note.Instance, c.pace.start)
		}
		if err := pause(ctx, c.pace.poll); err != nil {
			if last != nil {
				err = fmt.Errorf("%w: %w", err, last)
			}
			return err
		}
	}
}

// after returns lead and text, or "" if text is empty.
func after(lead, text string) string {
	if text == "" {
		return ""
	}
	return lead + text
}

// noChannel is the reason why no job can be invoked.
const noChannel = "nothing can connect to a runner on EC2, which runs the jobs that come from the chain: use " +
	"orchestrator.Local to invoke them"

// CannotInvoke says why Invoke refuses every job.
func (r *runner) CannotInvoke() string { return noChannel }

// Invoke returns ErrUnsupported, because nothing can connect to the machine.
func (r *runner) Invoke(_ context.Context, jobID uint32, _ []byte) (*faas.Result, error) {
	err := faas.JobErrorf(faas.ErrUnsupported, "invoke", "", jobID,
		"the job is not on FaaS, and the runner cannot run it for callers: %s", noChannel)
	err.NotRun = true
	return nil, err
}

// Health reports whether EC2 reports that the machine runs and, of a service on chain, what the
// runner last told the machine's console.
func (r *runner) Health(ctx context.Context) (faas.Health, error) {
	inst, err := r.find(ctx, false)
	switch {
	case err != nil:
		return faas.Health{}, fail("check runner", err)
	case inst == nil:
		return faas.Health{Reason: "the machine with client token " + r.note.Token + " is gone"}, nil
	case inst.State != types.InstanceStateNameRunning:
		return faas.Health{Reason: fmt.Sprintf("machine %s is %s%s", inst.ID, inst.State, after(": ", inst.Reason))}, nil
	}
	if !r.note.Tells {
		return faas.Health{Healthy: true}, nil
	}
	return healthOf(r.orc.client.console(ctx, inst.ID, 64<<10)), nil
}

// healthOf returns what the console says last of the runner's health.
func healthOf(console string) faas.Health {
	said := strings.LastIndex(console, healthMark)
	if said < 0 {
		return faas.Health{Healthy: true} // the machine boots, or is of a type that shows no console while it runs
	}
	line, _, _ := strings.Cut(console[said+len(healthMark):], "\n")
	at, line, _ := strings.Cut(line, " ")
	status, reason, _ := strings.Cut(line, " ")
	if status == "200" {
		return faas.Health{Healthy: true}
	}
	return faas.Health{Reason: fmt.Sprintf("%s (since %s)", cmp.Or(sanitize.Line(reason, 500),
		"it does not answer about its health"), sanitize.Line(at, 30))}
}

// Stop terminates the machine, waits for that, and removes the object of its binary. It succeeds if
// they are gone.
func (r *runner) Stop(ctx context.Context) error {
	c := r.orc.client
	if r.mayExist || r.note.Instance != "" {
		inst, err := r.find(ctx, true)
		for terminating := false; err == nil && inst != nil && inst.State != types.InstanceStateNameTerminated; {
			id := inst.ID
			if !terminating {
				if err = c.terminate(ctx, id); err != nil {
					break
				}
				terminating = true
			}
			if inst, err = c.describe(ctx, id, r.note.Token); err == nil && inst != nil &&
				inst.State != types.InstanceStateNameTerminated {
				if perr := pause(ctx, c.pace.poll); perr != nil {
					err = fmt.Errorf("machine %s is %s: %w", id, inst.State, perr)
				}
			}
		}
		if err != nil {
			return fail("stop runner", err)
		}
	}
	if err := c.remove(ctx, r.note); err != nil {
		return fail("stop runner", fmt.Errorf("the machine is terminated, but object %s stays in bucket %s: %w", r.note.Key,
			r.note.Bucket, err))
	}
	return nil
}

// Release does nothing: this program holds no resources for the machine.
func (r *runner) Release(context.Context) error { return nil }
