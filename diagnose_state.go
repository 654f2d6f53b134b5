package serverless

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

// state looks at what is kept of services on this machine.
func (d *diagnosis) state(ctx context.Context) []faas.Check {
	return check.Run(ctx, check.Time, check.Check{Name: "state", Run: d.checkStateDir},
		check.Check{Name: "services", Run: d.checkServices})
}

// checkStateDir finds out whether ledgers can be written, without writing one. Deployments go on without where the default directory cannot be used.
func (d *diagnosis) checkStateDir(context.Context) faas.Check {
	store, err := ledgers{dir: d.spec.StateDir}.store()
	if err != nil {
		return d.noLedgers(err, "cloud --state-dir DIRECTORY")
	}
	dir, exists := store.Dir(), true
	at := dir
	info, err := os.Stat(at)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(at) != at { // the first one of its parents that is there
		at, exists = filepath.Dir(at), false
		info, err = os.Stat(at)
	}
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "use", Path: at, Err: errors.New("it is no directory")}
	}
	if err == nil {
		if err = check.MayWriteIn(at); err != nil {
			err = &fs.PathError{Op: "write in", Path: at, Err: err}
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return d.noLedgers(faas.Errorf(faas.ErrPermissionDenied, diagnoseOp, "", "%w", err),
			"sudo chown -R \"$USER\" "+quoted(at)+"\nchmod u+rwx "+quoted(at))
	case err != nil:
		return d.noLedgers(faas.Errorf(faas.ErrInvalidArgument, diagnoseOp, "", "%w", err),
			"cloud --state-dir DIRECTORY, with one that can be written to")
	case !exists:
		return check.OK("%s is made when the first service is deployed", dir)
	}
	return check.OK("%s can be written to", dir)
}

func (d *diagnosis) noLedgers(err error, remedy string) faas.Check {
	if d.spec.StateDir == "" {
		return check.Warn(err, remedy, "no ledger can be kept, so that a crash may leave functions behind: %s",
			check.Words(err))
	}
	return check.FailBy(err, remedy)
}

// checkServices looks for operations that did not end, and for ledgers that cannot be read.
func (d *diagnosis) checkServices(context.Context) faas.Check {
	store, err := ledgers{dir: d.spec.StateDir}.store()
	if err != nil {
		return check.Skip("there is no state directory")
	}
	records, err := store.Records()
	if err != nil {
		return check.FailBy(err, "restore the file from a backup, or move it away and remove the service's functions "+
			"by hand")
	}
	var running, broken, remedies []string
	for _, r := range records {
		busy, err := store.Busy(r.Service, r.Provider)
		if err != nil {
			return check.FailBy(err, "make the state directory readable: chmod -R u+rwX "+quoted(store.Dir()))
		}
		if busy {
			running = append(running, r.Service)
			continue // what is not finished yet is no trouble
		}
		var units []string
		for _, u := range r.Sorted() {
			if u.Pending != "" {
				units = append(units, u.Pending+" of "+u.ID)
			}
		}
		if len(units) > 0 {
			broken = append(broken, fmt.Sprintf("%s: %s", r.Service, strings.Join(units, ", ")))
			remedies = append(remedies, "tangle-cloud recover --name "+quoted(r.Service))
		}
	}
	text := fmt.Sprintf("%d known in %s", len(records), store.Dir())
	if len(running) > 0 {
		text += "; being changed at this moment: " + strings.Join(running, ", ")
	}
	if len(broken) > 0 {
		return check.Warn(nil, strings.Join(remedies, "\n"), "%s; interrupted: %s", text, strings.Join(broken, "; "))
	}
	return check.OK("%s", text)
}
