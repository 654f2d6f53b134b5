package tangle

import (
	"context"
	"time"
)

const defaultLogTime = 10 * time.Second

// readEvents adds what only events contain: the names of the jobs, and the sources. If it does not
// find something it adds a warning and does not fail, because a blueprint can be deployed without.
func (r *reader) readEvents(ctx context.Context) {
	b := r.blueprint
	var want wanted
	if b.NamesFrom == FromNowhere {
		if want.definitionHash = r.definitionHash; want.definitionHash.IsZero() {
			r.warn("the jobs' names are unknown: the contract neither returns them nor keeps a hash to verify an event by")
		}
	}
	if b.SourcesFrom == FromNowhere && r.sourcesHash != emptySourcesHash() {
		want.sourcesHash = r.sourcesHash
	}
	r.fromCache(&want)
	if want.done() || r.cfg.LogQueries <= 0 {
		return
	}
	limit := r.cfg.LogTime
	if limit <= 0 {
		limit = defaultLogTime
	}
	if deadline, ok := ctx.Deadline(); ok { // the caller needs time for other work
		limit = min(limit, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	w := &walk{reader: r, want: want, queries: r.cfg.LogQueries, span: r.cfg.LogRange}
	if w.span == 0 {
		w.span = defaultLogRange
	}
	w.run(ctx)
	if w.want.definition != nil {
		r.toCache(cacheDefinition, r.definitionHash, w.want.definition)
		r.useDefinition(w.want.definition, FromEvent)
	} else if !want.definitionHash.IsZero() {
		r.warn("the jobs' names are unknown: %s", w.miss("BlueprintDefinitionRecorded"))
	}
	if w.want.sources != nil {
		r.toCache(cacheSources, r.sourcesHash, w.want.sources)
		r.useSources(w.want.sources, FromEvent)
	} else if !want.sourcesHash.IsZero() {
		r.warn("the published binaries are unknown: %s", w.miss("BlueprintSourcesRecorded"))
	}
}

// emptySourcesHash returns the hash that the contract stores for a blueprint without sources, that
// of an empty array.
func emptySourcesHash() Word {
	encoded := make([]byte, 2*wordSize)
	encoded[wordSize-1] = wordSize
	return Keccak256(encoded)
}

// useDefinition takes names and texts from an encoded definition with a verified hash.
func (r *reader) useDefinition(encoded []byte, from Origin) {
	b := r.blueprint
	full, err := DecodeDefinition(encoded)
	if err != nil {
		r.warn("the jobs' names are unknown: the definition that was recorded is %v", err)
		return
	}
	if len(full.Jobs) != len(b.Definition.Jobs) {
		r.warn("the jobs' names are unknown: the definition that was recorded has %d jobs, and the contract has %d",
			len(full.Jobs), len(b.Definition.Jobs))
		return
	}
	for i := range full.Jobs {
		job := &b.Definition.Jobs[i]
		job.Name, job.Description, job.MetadataURI = full.Jobs[i].Name, full.Jobs[i].Description, full.Jobs[i].MetadataURI
	}
	profiling := b.Texts.ProfilingData // what the contract returns is current
	b.Texts, b.NamesFrom = full.Metadata, from
	b.Texts.ProfilingData = profiling
}

// useSources takes the sources from the payload of an event with a verified hash.
func (r *reader) useSources(payload []byte, from Origin) {
	sources, err := DecodeSources(payload)
	if err != nil {
		r.warn("the published binaries are unknown: what was recorded of them is %v", err)
		return
	}
	r.blueprint.Sources, r.blueprint.SourcesFrom = sources, from
}
