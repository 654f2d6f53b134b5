package tangle

// The limits of the decoder, besides the length of the answer.
const (
	// MaxJobs is the maximum number of jobs that can be called: submitJob takes the index as a uint8.
	MaxJobs = 256
	// maxSources and maxBinaries only reject absurd counts: the decoder's budget limits the memory.
	maxSources     = 1024
	maxBinaries    = 4096
	maxMemberships = 256
)

// Layout is the shape of the definition. It distinguishes two groups of contract generations.
type Layout string

// The layouts.
const (
	LayoutA Layout = "A" // 17 words, without metadataHash: contracts up to 0.10.8
	LayoutB Layout = "B" // 18 words: contracts from 0.10.9 on
)

// Definition is a blueprint as the contract defines it. Its strings and byte slices are parts of
// the decoded data. Strings may be invalid UTF-8, as in the contract.
type Definition struct {
	Layout                Layout
	MetadataURI           string
	MetadataHash          Word // zero in LayoutA
	Manager               Address
	MasterManagerRevision uint32
	HasConfig             bool
	Config                ServiceConfig
	Metadata              Texts
	Jobs                  []Job
	RegistrationSchema    []byte
	RequestSchema         []byte
	Sources               []Source
	SupportedMemberships  []uint8
}

// ServiceConfig says how a service of the blueprint is operated and paid for.
type ServiceConfig struct {
	Membership           uint8
	Pricing              uint8
	MinOperators         uint32
	MaxOperators         uint32 // 0 for unlimited
	SubscriptionRate     Word
	SubscriptionInterval uint64 // in seconds
	EventRate            Word
}

// Texts is how a blueprint describes itself.
type Texts struct {
	Name, Description, Author, Category, CodeRepository, Logo, Website, License string
	ProfilingData                                                               string
}

// Job is the definition of one job.
type Job struct {
	Name, Description, MetadataURI string
	ParamsSchema, ResultSchema     []byte
}

// The sizes of the heads in words, and the minimum size of an element in bytes: its offset, its
// head, and the lengths of its strings.
const (
	textsWords = 9
	jobWords   = 5
	leastJob   = (1 + jobWords + jobWords) * wordSize
)

// DecodeDefinition decodes the result of getBlueprintDefinition. The event
// BlueprintDefinitionRecorded contains the same. The data itself tells the layout. The definition
// retains the data, so the caller must not change it. The error is an *UnknownLayoutError or a
// *DecodeError.
func DecodeDefinition(data []byte) (*Definition, error) {
	d := NewDecoder(data)
	def := &Definition{}
	if !d.Head(0, 1, "definition") {
		return nil, d.Err()
	}
	base := d.offset(0, 0, "definition")
	if d.err == nil && len(data)-base < wordSize {
		d.fail("definition", 0, "the answer of %d bytes ends before the definition's first word", len(data))
	}
	if d.err != nil {
		return nil, d.Err()
	}
	// The first string begins right after the head, so its offset is the length of the head.
	words := 18
	switch first := d.Word(base); first {
	case headEnd(17):
		def.Layout, words = LayoutA, 17
	case headEnd(18):
		def.Layout = LayoutB
	default:
		return nil, &UnknownLayoutError{FirstOffset: first}
	}
	if !d.Head(base, words, "definition") {
		return nil, d.Err()
	}
	at := base
	next := func() int { at += wordSize; return at - wordSize }

	def.MetadataURI = d.str(base, next(), "metadataUri")
	if def.Layout != LayoutA {
		def.MetadataHash = d.Word(next())
	}
	def.Manager = d.Address(next(), "manager")
	def.MasterManagerRevision = uint32(d.Uint(next(), 32, "masterManagerRevision"))
	def.HasConfig = d.Bool(next(), "hasConfig")
	def.Config = ServiceConfig{
		Membership:           uint8(d.Uint(next(), 8, "config.membership")),
		Pricing:              uint8(d.Uint(next(), 8, "config.pricing")),
		MinOperators:         uint32(d.Uint(next(), 32, "config.minOperators")),
		MaxOperators:         uint32(d.Uint(next(), 32, "config.maxOperators")),
		SubscriptionRate:     d.Word(next()),
		SubscriptionInterval: d.Uint(next(), 64, "config.subscriptionInterval"),
		EventRate:            d.Word(next()),
	}
	def.Metadata = d.texts(base, next())
	def.Jobs = d.jobs(base, next())
	def.RegistrationSchema = d.Blob(base, next(), "registrationSchema")
	def.RequestSchema = d.Blob(base, next(), "requestSchema")
	def.Sources = d.sources(base, next())
	def.SupportedMemberships = d.memberships(base, next())
	if d.err != nil {
		return nil, d.Err()
	}
	return def, nil
}

// UnknownLayoutError means that the definition has none of the known shapes.
type UnknownLayoutError struct {
	FirstOffset Word // the first word of the definition
}

func (e *UnknownLayoutError) Error() string {
	return "the definition's first offset is " + shortHex(e.FirstOffset) +
		", and the known layouts have 0x220 (up to 0.10.8) or 0x240 (later)"
}

// headEnd returns the first offset of a definition whose head has this many words.
func headEnd(words int) (w Word) {
	n := words * wordSize
	w[30], w[31] = byte(n>>8), byte(n)
	return w
}

func (d *Decoder) texts(base, at int) (t Texts) {
	base = d.offset(base, at, "metadata")
	if !d.Head(base, textsWords, "metadata") {
		return t
	}
	for i, field := range [textsWords]struct {
		name string
		into *string
	}{
		{"metadata.name", &t.Name}, {"metadata.description", &t.Description}, {"metadata.author", &t.Author},
		{"metadata.category", &t.Category}, {"metadata.codeRepository", &t.CodeRepository}, {"metadata.logo", &t.Logo},
		{"metadata.website", &t.Website}, {"metadata.license", &t.License}, {"metadata.profilingData", &t.ProfilingData},
	} {
		*field.into = d.str(base, base+i*wordSize, field.name)
	}
	return t
}

func (d *Decoder) jobs(base, at int) []Job {
	elements, n := d.Array(base, at, MaxJobs, leastJob, "jobs")
	if n == 0 || !d.Head(elements, n, "jobs") {
		return nil
	}
	jobs := make([]Job, n)
	d.enter("jobs")
	defer d.leave()
	for i := 0; i < n && d.err == nil; i++ {
		d.at(i)
		job := d.offset(elements, elements+i*wordSize, "offset")
		if !d.Head(job, jobWords, "head") {
			break
		}
		jobs[i] = Job{
			Name:         d.str(job, job, "name"),
			Description:  d.str(job, job+wordSize, "description"),
			MetadataURI:  d.str(job, job+2*wordSize, "metadataUri"),
			ParamsSchema: d.Blob(job, job+3*wordSize, "paramsSchema"),
			ResultSchema: d.Blob(job, job+4*wordSize, "resultSchema"),
		}
	}
	return jobs
}

func (d *Decoder) memberships(base, at int) []uint8 {
	const field = "supportedMemberships"
	elements, n := d.Array(base, at, maxMemberships, wordSize, field)
	if n == 0 || !d.Head(elements, n, field) {
		return nil
	}
	list := make([]uint8, n)
	for i := range list {
		list[i] = uint8(d.Uint(elements+i*wordSize, 8, field))
	}
	return list
}
