package platform

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

// Diagnose checks that the platform is open and its directory writable, and reports the limits in
// force. It calls and starts nothing.
func (e *Executor) Diagnose(ctx context.Context) []faas.Check {
	probes := []check.Check{{Name: "directory", Run: e.p.checkDirectory},
		{Name: "functions", Run: e.p.checkFunctions}, {Name: "limits", Run: e.p.checkLimits},
		{Name: "memory", Run: e.p.checkMemory}}
	open := check.Run(ctx, check.Time, check.Check{Name: "platform", Run: func(ctx context.Context) faas.Check {
		e.p.mu.RLock()
		defer e.p.mu.RUnlock()
		switch err := ctx.Err(); {
		case e.p.closed:
			return check.FailBy(notRunError(faas.ErrUnavailable, "diagnose", "the platform is closed"),
				"start the program that embeds the platform again")
		case err != nil:
			return check.FailBy(notRunError(faas.ErrTimeout, "diagnose", "%w", err), "try again, with more time")
		}
		return check.OK("it is open")
	}})
	if open[0].Status != faas.CheckOK {
		return append(open, check.SkipAll("the platform could not be looked at", probes...)...)
	}
	return append(open, check.Run(ctx, check.Time, probes...)...)
}

func (p *Platform) checkDirectory(context.Context) faas.Check {
	dir := p.store.dir
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fs.ErrInvalid
	}
	if err == nil {
		err = check.MayWriteIn(dir)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return check.FailBy(notRunError(faas.ErrPermissionDenied, "diagnose", "directory %s: %w", dir, err),
			"chmod u+rwx '"+dir+"'")
	case err != nil:
		return check.FailBy(notRunError(faas.ErrInternal, "diagnose", "directory %s: %w", dir, err),
			"start the platform again, with a directory that exists and can be written to")
	case p.store.own != nil:
		return check.OK("%s can be written to, and goes with the platform", dir)
	}
	return check.OK("%s can be written to, and stays", dir)
}

func (p *Platform) checkFunctions(context.Context) faas.Check {
	p.mu.RLock()
	count, broken := len(p.functions), 0
	for _, f := range p.functions {
		if f.broken != nil {
			broken++
		}
	}
	p.mu.RUnlock()
	most := p.opts.limits.MaxFunctions
	switch {
	case count >= most:
		return check.FailBy(notRunError(faas.ErrTooLarge, "diagnose", "there are %d functions, and no more than %d", count,
			most), "remove functions, or start the platform with a larger Limits.MaxFunctions")
	case broken > 0:
		return check.Warn(nil, "deploy them again, or remove them",
			"%d of %d functions were stored and cannot be brought back", broken, count)
	}
	return check.OK("%d of %d", count, most)
}

func (p *Platform) checkLimits(context.Context) faas.Check {
	l := &p.opts.limits
	return check.OK("memory %d MB, timeout %d s, payload %d MB, zip %d MB, unpacked %d MB", l.MaxMemoryMB,
		l.MaxTimeoutSecs, l.MaxPayloadMB, l.MaxPackageMB, l.MaxUnpackedMB)
}

func (p *Platform) checkMemory(context.Context) faas.Check {
	return check.OK("%s", p.MemoryLimitKind())
}

// declaredLimits returns the limits that the platform declares beside the list of functions.
func (p *Platform) declaredLimits() map[string]any {
	l := &p.opts.limits
	return map[string]any{
		"max_memory_mb": l.MaxMemoryMB, "max_timeout_secs": l.MaxTimeoutSecs, "max_payload_mb": l.MaxPayloadMB,
		"max_package_mb": l.MaxPackageMB, "max_functions": l.MaxFunctions,
	}
}
