package custom

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// expectFrom is the size from which a package is announced before it is sent (Expect:
// 100-continue), so that a refusal costs no upload.
const expectFrom = 1 << 20

// Converge uploads the package with its configuration and waits until the function is deployed and
// healthy. It leaves alone a function that already has both, if the platform can tell. If the
// platform cannot replace a function in one step, Converge deletes the old one right before it puts
// the new one, after all other checks; if the put then fails, the error says that the function is
// gone. On an invoke-only platform it changes nothing and only checks that the function answers.
//
// The protocol cannot keep instances warm: for KeepWarm, Converge warms as many once, if the
// platform supports that.
func (e *Executor) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	d, err := e.newDeployment(u)
	if err != nil {
		return faas.State{}, err
	}
	s, err := d.run(ctx, report)
	s.Existed = prior == nil && d.found
	return s, err
}

func (d *deployment) run(ctx context.Context, report func(faas.Progress)) (faas.State, error) {
	e, u := d.e, d.u
	if e.invokeOnly() {
		s, err := e.probe(ctx, d.request(), u.ID)
		if err == nil && s.Status != faas.StatusReady {
			err = e.errorf(faas.ErrUnavailable, d.request(), "%s does not answer as it should: %s", s.Resource, s.Reason)
		}
		return s, err
	}
	old, err := e.get(ctx, d.request(), u.ID)
	switch {
	case err == nil:
		d.existed(old)
		if s := e.state(u.ID, old); s.Current(u) {
			return s, nil
		}
	case faas.CodeOf(err) != faas.ErrNotFound:
		return faas.State{}, err
	case old != nil:
		d.absence, old = old.Revision, nil
	}
	progress := httputil.NewProgress(report, u.Package.Size())
	defer progress.Stop()
	a, err := d.put(ctx, old, progress)
	if err != nil {
		return faas.State{}, err
	}
	return d.ready(ctx, a, progress)
}

// deployment is one Converge.
type deployment struct {
	e *Executor
	u faas.Unit
	f faas.Function
	// absence is the revision that the platform gives to the absence of the function, or "" if it
	// gives none or the function exists.
	absence string
	// found reports that there was a function that this executor had not made.
	found bool
	// before holds the platform's descriptions of earlier functions, and when each was seen.
	before map[string]time.Time
}

// existed records that a function exists.
func (d *deployment) existed(f *function) {
	d.found = d.found || d.e.made.get(d.u.ID).changes == 0
	d.before[f.seen()] = f.asOf
}

// staleTime is how long a new function is not believed to look the same as the previous one.
const staleTime = 2 * time.Second

// isBefore reports whether f describes the previous function, on a platform that does not report
// code and configuration. put is when the new function was put. On a platform that reports times in
// seconds, two functions put in the same second can look alike.
func (d *deployment) isBefore(f *function, put time.Time) bool {
	asOf, same := d.before[f.seen()]
	if !same || f.DeployedAt == "" || f.PackageSHA256 != "" && f.ConfigFingerprint != "" {
		return false
	}
	deployed := parseTime(f.DeployedAt)
	sameSecond := deployed.Nanosecond() == 0 && !asOf.IsZero() && !asOf.After(deployed)
	return !sameSecond && time.Since(put) < staleTime
}

func (e *Executor) newDeployment(u faas.Unit) (*deployment, error) {
	bad := func(code faas.Code, format string, args ...any) error {
		return faas.Errorf(code, "deploy", faas.Custom, format, args...)
	}
	if len(u.Functions) != 1 {
		return nil, bad(faas.ErrInvalidArgument, "unit %q has %d functions and not one", u.ID, len(u.Functions))
	}
	f := u.Functions[0]
	if id := kit.ProtocolNames.Of(e.set.service, f.JobID); u.ID != id {
		return nil, bad(faas.ErrInvalidArgument, "unit %q is not of this service, whose unit for job %d is %q", u.ID,
			f.JobID, id)
	}
	if _, err := e.takes().Check(u.Functions); err != nil {
		return nil, err
	}
	if !e.invokeOnly() {
		switch {
		case u.Package == nil:
			return nil, bad(faas.ErrInvalidArgument, "unit %q has no package", u.ID)
		case u.Package.Size() > maxPackage:
			return nil, bad(faas.ErrTooLarge, "the package of unit %q has %d bytes, the limit of the protocol is %d: strip "+
				"the binary (-ldflags=-s)", u.ID, u.Package.Size(), maxPackage)
		case u.Package.Unpacked() > maxUnpacked:
			return nil, bad(faas.ErrTooLarge, "the package of unit %q has %d bytes unpacked, the limit of the protocol is %d",
				u.ID, u.Package.Unpacked(), maxUnpacked)
		}
	}
	e.hide(f)
	return &deployment{e: e, u: u, f: f, before: map[string]time.Time{}}, nil
}

func (d *deployment) request() request { return request{op: "deploy", job: int64(d.f.JobID)} }

func (d *deployment) putRequest(progress *httputil.Progress) request {
	r := d.request()
	r.method, r.url, r.size = http.MethodPut, d.e.functionURL(d.u.ID, ""), d.u.Package.Size()
	r.header = http.Header{
		"Content-Type":            {"application/zip"},
		"X-Blueprint-Config":      {configHeader(d.f)},
		"X-Blueprint-Fingerprint": {d.u.Fingerprint()},
		"X-Blueprint-Service":     {headerText(d.e.set.service)},
	}
	if r.size >= expectFrom {
		r.header["Expect"] = []string{"100-continue"}
	}
	r.body = func() (io.ReadCloser, error) {
		body, err := d.u.Package.Open()
		if err != nil {
			return nil, err
		}
		return progress.Upload(body), nil
	}
	return r
}

// headerText encodes a service name for a header: it percent-encodes the percent sign and whatever
// is not visible ASCII.
func headerText(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c > ' ' && c < 0x7f && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(strconv.FormatUint(uint64(c)|0x100, 16)[1:]))
		}
	}
	return b.String()
}

// maxRevision is the longest revision that is sent back to a platform, in bytes.
const maxRevision = 256

// put uploads the package. old is the existing function, or nil.
func (d *deployment) put(ctx context.Context, old *function, progress *httputil.Progress) (*answer, error) {
	r := d.putRequest(progress)
	if old != nil {
		r.header["X-Blueprint-If-Exists"] = []string{"replace"}
	}
	if old != nil && old.has(featureRestore) && old.Revision != "" && len(old.Revision) <= maxRevision {
		// An abandoned upload that arrives late must not undo what was put back in the meantime.
		r.header["X-Blueprint-If-Revision"] = []string{headerText(old.Revision)}
	}
	if d.absence != "" { // nor may it bring back what was deleted
		r.header["X-Blueprint-If-Revision"] = []string{headerText(d.absence)}
	}
	a, err := d.e.change(ctx, d.u.ID, r)
	switch {
	case err != nil:
		return nil, err
	case a.status != http.StatusConflict:
		return a, d.check(r, a)
	case old == nil:
		return d.putAgain(ctx, progress)
	case old.has(featureReplace): // it could have, and says that it must not
		return nil, d.e.statusError(r, a)
	}
	return d.replace(ctx, r)
}

// putAgain puts the function after the platform has refused to create it: it exists and a read was
// behind, or it was deleted, or the platform has restarted since it was asked.
func (d *deployment) putAgain(ctx context.Context, progress *httputil.Progress) (*answer, error) {
	old, err := d.e.get(ctx, d.request(), d.u.ID)
	asked := d.absence != ""
	d.absence = ""
	switch {
	case err == nil:
		d.existed(old)
		return d.put(ctx, old, progress)
	case faas.CodeOf(err) != faas.ErrNotFound:
		return nil, err
	}
	r := d.putRequest(progress)
	switch {
	case !asked: // it has no name for the absence: there is a function, which it does not show
		d.found = d.found || d.e.made.get(d.u.ID).changes == 0
		r.header["X-Blueprint-If-Exists"] = []string{"replace"}
	case old != nil:
		r.header["X-Blueprint-If-Revision"] = []string{headerText(old.Revision)}
	}
	a, err := d.e.change(ctx, d.u.ID, r)
	switch {
	case err != nil:
		return nil, err
	case a.status != http.StatusConflict:
		return a, d.check(r, a)
	case asked:
		return nil, d.e.statusError(r, a)
	}
	return d.replace(ctx, r)
}

// check turns the answer to a PUT into an error unless the protocol defines it as success.
func (d *deployment) check(r request, a *answer) error {
	switch {
	case a.missing():
		return d.e.byHand(r, a, d.u.ID)
	case !a.ok():
		err := d.e.statusError(r, a)
		if a.status == http.StatusConflict {
			err.Code = faas.ErrAlreadyExists
		}
		return err
	}
	d.e.kind.CompareAndSwap(kindUnknown, kindDeploys)
	return nil
}

// replace deletes the function and puts it again, for a platform that has no other way. While the
// PUT fails, no function exists. So replace tries harder than anything else: also after ctx has
// ended, when the platform throttles, and when a function exists again because an earlier,
// interrupted PUT arrived late.
func (d *deployment) replace(ctx context.Context, r request) (*answer, error) {
	lasting, cancel := kit.Outlast(ctx, 2*grace)
	defer cancel()
	exists, deleted := true, false
	for p := newPatience(); ; {
		var (
			a   *answer
			err error
		)
		if exists {
			err = d.clear(ctx, lasting, &deleted)
		}
		if deleted {
			ctx = lasting
		}
		if err == nil {
			exists = false
			if a, err = d.e.change(ctx, d.u.ID, r); err == nil {
				err = d.check(r, a)
			}
		}
		if err == nil {
			return a, nil
		}
		exists = exists || faas.CodeOf(err) == faas.ErrAlreadyExists
		wait, more := p.next(err)
		if again := isTransient(err) || faas.CodeOf(err) == faas.ErrThrottled ||
			faas.CodeOf(err) == faas.ErrAlreadyExists; !again || !more || !deleted {
			return nil, d.gone(err, deleted)
		}
		if !httputil.Sleep(ctx, wait) {
			return nil, d.gone(d.e.errorf(faas.ErrTimeout, r, "%w; gave up waiting to try again: %w", reason(err),
				context.Cause(ctx)), deleted)
		}
	}
}

// clear deletes the function. If a read does not find it, clear still deletes it unless an earlier
// call did, because the platform has just refused to create it. It starts under ctx and finishes
// under lasting. It sets deleted once the function may be gone.
func (d *deployment) clear(ctx, lasting context.Context, deleted *bool) error {
	old, err := d.e.get(ctx, d.request(), d.u.ID) // which also looks whose it is
	switch {
	case err == nil:
		d.existed(old)
	case faas.CodeOf(err) != faas.ErrNotFound:
		return err
	case *deleted:
		return nil
	}
	if ctx.Err() != nil {
		return d.e.errorf(faas.ErrTimeout, d.request(), "function %s is not replaced: %w", d.u.ID, ctx.Err())
	}
	made := d.e.made.get(d.u.ID).changes
	found, err := d.e.delete(lasting, d.request(), d.u.ID)
	d.found = d.found || found && made == 0
	*deleted = *deleted || err == nil || d.e.made.get(d.u.ID).changes > made
	return err
}

// gone adds to err that the old function no longer exists, if it may have been deleted.
func (d *deployment) gone(err error, deleted bool) error {
	if !deleted {
		return err
	}
	failed := d.e.errorf(faas.CodeOf(err), d.request(),
		"function %s was deleted to be replaced, which this platform cannot do in one step, and the new one could not be "+
			"put: %w", d.u.ID, reason(err))
	var cause *faas.Error
	if errors.As(err, &cause) {
		failed.RetryAfter, failed.Unsettled = cause.RetryAfter, cause.Unsettled
	}
	return failed
}

// byHand returns the error for a platform that does not take deployments. It says everything that
// the operator has to do instead.
func (e *Executor) byHand(r request, a *answer, id string) error {
	job, ok := kit.ProtocolNames.Job(e.set.service, id)
	where, name := e.set.base.String()+"/job/N", "each job N"
	if ok {
		n := strconv.FormatUint(uint64(job), 10)
		where, name = e.set.base.String()+"/job/"+n, "job "+n
	}
	return e.errorf(faas.ErrUnsupported, r, `the platform does not take deployments (%s %s answered %d), it is `+
		`invoke-only. Deploy by hand: upload the job binary as the platform's function for %s, with the memory, `+
		`timeout and environment variables of the service, so that POST %s takes {"job_id":n,"args":[...]} and `+
		`HEAD on it answers 200; then set the option mode to invoke-only (and invoke_url or invoke_urls, `+
		`if it is elsewhere), and deploy again`,
		r.method, faas.RedactURL(r.url), a.status, name, where)
}
