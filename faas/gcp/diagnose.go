//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	cloudresourcemanager "google.golang.org/api/cloudresourcemanager/v1"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

// Diagnose checks the credentials, the clock, the project, everything that [Executor.Preflight]
// checks, the region, and how many functions the region holds. All of its calls only read.
func (e *Executor) Diagnose(ctx context.Context) []faas.Check {
	d := &diagnosis{e: e, r: request{op: "diagnose", job: faas.NoJob}}
	first := check.Run(ctx, check.Time, check.Check{Name: "credentials", Run: d.credentials})
	later := []check.Check{
		{Name: "clock", Run: d.clock}, {Name: "project", Run: d.project},
		{Name: "apis", Run: d.found(e.checkAPIs, "serviceusage.services.get", "all that deploying needs are enabled")},
		{Name: "permissions", Run: d.found(e.checkPermissions, "", "all that deploying needs are held")},
		{Name: "build", Run: d.build}, {Name: "region", Run: d.region}, {Name: "bucket", Run: d.bucket},
		{Name: "quota", Run: d.quota},
	}
	if first[0].Status == faas.CheckFailed {
		if d.told != nil { // who refuses a token because of a wrong clock tells the time
			first = append(first, check.Run(ctx, check.Time, later[0])...)
			later = later[1:]
		}
		return append(first, check.SkipAll("there is no token to ask with", later...)...)
	}
	d.readProject(ctx)
	return append(first, check.Run(ctx, check.Time, later...)...)
}

var setProject = check.SetField("provider.project_id", "PROJECT")

// diagnosis is one Diagnose.
type diagnosis struct {
	e *Executor
	r request

	told       *exchange // of which the answer tells the time
	holds      *cloudresourcemanager.Project
	projectErr error
}

func (d *diagnosis) credentials(ctx context.Context) faas.Check {
	e := d.e
	if e.access == nil {
		return check.OK("none are sent (option disable_credentials, for emulators)")
	}
	sent := time.Now()
	if err := e.access.try(ctx); err != nil {
		if header := headerOf(err); header.Get("Date") != "" {
			d.told = &exchange{answer: answer{status: http.StatusUnauthorized, header: header, sent: sent, came: time.Now()}}
		}
		failed := e.tokenError(ctx, d.r, err)
		remedy := "gcloud auth application-default login\nexport GOOGLE_APPLICATION_CREDENTIALS=FILE"
		switch {
		case failed.Code == faas.ErrUnavailable || failed.Code == faas.ErrTimeout:
			remedy = "let this machine's network, firewall and proxy (HTTPS_PROXY) reach oauth2.googleapis.com:443"
		case e.set.credentialsFile != "":
			remedy = check.SetOption("credentials_file", "FILE")
		case e.set.impersonate != "":
			remedy += "\ngcloud iam service-accounts add-iam-policy-binding " + e.set.impersonate +
				" --member=MEMBER --role=roles/iam.serviceAccountTokenCreator"
		}
		return check.FailBy(failed, remedy)
	}
	if e.set.impersonate != "" {
		return check.OK("there is a token of %s, which is impersonated", e.set.impersonate)
	}
	return check.OK("there is a token")
}

// readProject asks for the project. The answer also tells the time.
func (d *diagnosis) readProject(ctx context.Context) {
	r := d.r
	r.within = check.Time
	d.told, d.projectErr = d.e.call(ctx, r, true, func(ctx context.Context) (err error) {
		d.holds, err = d.e.projects.Get(d.e.set.project).Context(ctx).Do()
		return err
	})
}

func (d *diagnosis) clock(context.Context) faas.Check {
	if d.told.status == 0 {
		return check.Skip("Google Cloud was not reached")
	}
	return check.Clock(faas.GCPFunctions, "Google Cloud", d.told.header, d.told.sent, d.told.came)
}

func (d *diagnosis) project(context.Context) faas.Check {
	e := d.e
	switch code := faas.CodeOf(d.projectErr); {
	case d.projectErr == nil:
	case disabled(d.projectErr):
		return d.unknown(d.projectErr, "")
	case code == faas.ErrPermissionDenied:
		return check.Warn(d.projectErr, e.grantCommand("roles/browser")+"\n"+setProject,
			"project %s does not exist, or the permission resourcemanager.projects.get is missing, which deploying does not "+
				"take: %s", e.set.project, check.Words(d.projectErr))
	case code == faas.ErrNotFound || code == faas.ErrInvalidArgument:
		return check.FailBy(d.projectErr, setProject)
	case code == faas.ErrUnavailable || code == faas.ErrTimeout:
		return check.FailBy(d.projectErr, "let this machine's network, firewall and proxy (HTTPS_PROXY) reach "+
			"cloudresourcemanager.googleapis.com:443")
	default:
		return d.unknown(d.projectErr, "")
	}
	if state := d.holds.LifecycleState; state != "" && state != "ACTIVE" {
		err := e.errorf(faas.ErrInvalidArgument, d.r, "project %s is not active: its state is %q", e.set.project, state)
		return check.FailBy(err, "gcloud projects undelete "+e.set.project)
	}
	return check.OK("%s, number %d", e.set.project, d.holds.ProjectNumber)
}

// disabled reports whether an API refused because it is not enabled in the project.
func disabled(err error) bool {
	var refused *refusal
	return errors.As(err, &refused) && refused.reason == "SERVICE_DISABLED"
}

// unknown is the check of something that could not be read. permission is what reading requires and
// deploying does not.
func (d *diagnosis) unknown(err error, permission string) faas.Check {
	remedy := cmp.Or(kit.RefusalOf(err).Remedy, "try again")
	if faas.CodeOf(err) == faas.ErrTimeout {
		return check.FailBy(err, "try again, with more time")
	}
	if permission != "" && faas.CodeOf(err) == faas.ErrPermissionDenied && !disabled(err) {
		return check.Warn(err, d.e.grantCommand(roleFor(permission)),
			"it could not be checked: that needs the permission %s, which deploying does not", permission)
	}
	return check.Warn(err, remedy, "it could not be checked: %s", check.Words(err))
}

// found makes a check from what Preflight looks at.
func (d *diagnosis) found(look func(context.Context, request) ([]finding, error), permission, fine string) func(
	context.Context) faas.Check {
	return func(ctx context.Context) faas.Check {
		found, err := look(ctx, d.r)
		if err != nil {
			return d.unknown(err, permission)
		}
		if len(found) == 0 {
			return check.OK("%s", fine)
		}
		var what, remedies []string
		for _, f := range found {
			what, remedies = append(what, f.what), append(remedies, f.remedy)
		}
		return check.FailBy(d.e.errorf(faas.ErrPermissionDenied, d.r, "%s", strings.Join(what, "; ")),
			strings.Join(remedies, "\n"))
	}
}

func (d *diagnosis) build(ctx context.Context) faas.Check {
	if d.e.set.mode != modeBuild {
		return check.Skip("nothing is built in mode %s", d.e.set.mode)
	}
	return d.found(d.e.checkBuilder, "", "Cloud Build's account may build, as far as the caller may look")(ctx)
}

func (d *diagnosis) bucket(ctx context.Context) faas.Check {
	if d.e.set.mode != modeRun {
		return check.Skip("mode %s takes none", d.e.set.mode)
	}
	return d.found(d.e.checkBucket, "", "packages can be put into "+d.e.set.bucket)(ctx)
}

// region asks for something that every region has. For a region that does not exist, Google gives
// the same answer as for a missing permission.
func (d *diagnosis) region(ctx context.Context) faas.Check {
	e, r := d.e, d.r
	var err error
	if e.set.mode == modeRun {
		_, err = e.call(ctx, r, true, func(ctx context.Context) error {
			_, err := e.run.Services.List(e.set.parent()).PageSize(1).Context(ctx).Do()
			return err
		})
	} else {
		_, err = buildHost{e}.runtimes(ctx, r)
	}
	var refused *refusal
	switch code := faas.CodeOf(err); {
	case err == nil:
		return check.OK("%s answers", e.set.region)
	case code == faas.ErrNotFound || code == faas.ErrInvalidArgument,
		code == faas.ErrPermissionDenied && errors.As(err, &refused) &&
			strings.Contains(refused.message, "locations/"+e.set.region):
		return check.Fail(err, "export "+RegionEnv+"=REGION (gcloud functions regions list shows them)",
			"region %s does not exist, or not for this project: %s", e.set.region, check.Words(err))
	case code == faas.ErrPermissionDenied:
		return check.Skip("it could not be checked; see apis and permissions: %s", check.Words(err))
	}
	return d.unknown(err, "")
}

// maxFunctions is how many functions a region may hold, less its other Cloud Run services
// (docs.cloud.google.com/functions/quotas).
const maxFunctions = 1000

func (d *diagnosis) quota(ctx context.Context) faas.Check {
	all, err := d.e.host.list(ctx, d.r)
	switch code := faas.CodeOf(err); {
	case err == nil:
	case code == faas.ErrTimeout:
		return d.unknown(err, "")
	default:
		return check.Skip("the functions could not be counted: %s", check.Words(err))
	}
	const raise = "remove functions that nobody needs, or use another region: export " + RegionEnv + "=REGION"
	switch n := len(all); {
	case n >= maxFunctions:
		return check.FailBy(d.e.errorf(faas.ErrTooLarge, d.r, "region %s holds %d functions; the limit is %d",
			d.e.set.region, n, maxFunctions), raise)
	case n*10 >= maxFunctions*9:
		return check.Warn(nil, raise, "region %s holds %d of %d functions", d.e.set.region, n, maxFunctions)
	default:
		return check.OK("%d of %d functions in %s", n, maxFunctions, d.e.set.region)
	}
}
