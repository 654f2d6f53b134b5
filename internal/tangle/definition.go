package tangle

// The limits of the decoder beside the length of the answer itself.
const (
	// MaxJobs is how many jobs a blueprint can have that can be called: submitJob takes the index as uint8.
	MaxJobs = 256
	// maxSources and maxBinaries only keep the counts sane: the budget bounds the memory.
	maxSources     = 1024
	maxBinaries    = 4096
	maxMemberships = 256
)

// Layout is the shape of the definition, which tells two kinds of contract generations apart.
type Layout string

// The layouts.
const (
	LayoutA Layout = "A" // 17 words, without metadataHash: contracts up to 0.10.8
	LayoutB Layout = "B" // 18 words: contracts from 0.10.9 on
)

// Definition is a blueprint as the contract defines it. Its strings and byte slices are parts of the decoded data. Strings are as the contract
// has them, which does not make sure that they are UTF-8.
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

// ServiceConfig is how a service of the blueprint is operated and paid for.
type ServiceConfig struct {
	Membership           uint8
	Pricing              uint8
	MinOperators         uint32
	MaxOperators         uint32 // 0: unlimited
	SubscriptionRate     Word
	SubscriptionInterval uint64 // in seconds
	EventRate            Word
}

// Texts is what a blueprint says of itself.
type Texts struct {
	Name, Description, Author, Category, CodeRepository, Logo, Website, License string
	ProfilingData                                                               string
}

// Job is the definition of one job.
type Job struct {
	Name, Description, MetadataURI string
	ParamsSchema, ResultSchema     []byte
}

// The words of the heads, and the least bytes that an element takes: its offset, its head, and the lengths of its strings.
const (
	textsWords = 9
	jobWords   = 5
	leastJob   = (1 + jobWords + jobWords) * wordSize
)

// DecodeDefinition decodes what getBlueprintDefinition returns, which is also what the event BlueprintDefinitionRecorded carries. The layout
// is told from the data itself. The data belongs to the definition from then on, and must not be changed. The error is an *UnknownLayoutError
// or a *DecodeError.
func DecodeDefinition(data []byte) (*Definition, error) {
	d := newDecoder(data)
	def := &Definition{}
	if !d.head(0, 1, "definition") {
		return nil, d.result()
	}
	base := d.offset(0, 0, "definition")
	if d.err == nil && len(data)-base < wordSize {
		d.fail("definition", 0, "the answer of %d bytes ends before the definition's first word", len(data))
	}
	if d.err != nil {
		return nil, d.result()
	}
	// The first string begins right after the head, and so tells how long the head is.
	words := 18
	switch first := d.word(base); first {
	case headEnd(17):
		def.Layout, words = LayoutA, 17
	case headEnd(18):
		def.Layout = LayoutB
	default:
		return nil, &UnknownLayoutError{FirstOffset: first}
	}
	if !d.head(base, words, "definition") {
		return nil, d.result()
	}
	at := base
	next := func() int { at += wordSize; return at - wordSize }

	def.MetadataURI = d.string(base, next(), "metadataUri")
	if def.Layout != LayoutA {
		def.MetadataHash = d.word(next())
	}
	def.Manager = d.address(next(), "manager")
	def.MasterManagerRevision = uint32(d.uint(next(), 32, "masterManagerRevision"))
	def.HasConfig = d.bool(next(), "hasConfig")
	def.Config = ServiceConfig{
		Membership:           uint8(d.uint(next(), 8, "config.membership")),
		Pricing:              uint8(d.uint(next(), 8, "config.pricing")),
		MinOperators:         uint32(d.uint(next(), 32, "config.minOperators")),
		MaxOperators:         uint32(d.uint(next(), 32, "config.maxOperators")),
		SubscriptionRate:     d.word(next()),
		SubscriptionInterval: d.uint(next(), 64, "config.subscriptionInterval"),
		EventRate:            d.word(next()),
	}
	def.Metadata = d.texts(base, next())
	def.Jobs = d.jobs(base, next())
	def.RegistrationSchema = d.blob(base, next(), "registrationSchema")
	def.RequestSchema = d.blob(base, next(), "requestSchema")
	def.Sources = d.sources(base, next())
	def.SupportedMemberships = d.memberships(base, next())
	if d.err != nil {
		return nil, d.result()
	}
	return def, nil
}

// UnknownLayoutError says that the definition has none of the known shapes.
type UnknownLayoutError struct {
	FirstOffset Word // the definition's first word
}

func (e *UnknownLayoutError) Error() string {
	return "the definition's first offset is " + shortHex(e.FirstOffset) +
		", and the known layouts have 0x220 (up to 0.10.8) or 0x240 (later)"
}

// headEnd is the first offset of a definition whose head takes so many words.
func headEnd(words int) (w Word) {
	n := words * wordSize
	w[30], w[31] = byte(n>>8), byte(n)
	return w
}

func (d *decoder) texts(base, at int) (t Texts) {
	base = d.offset(base, at, "metadata")
	if !d.head(base, textsWords, "metadata") {
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
		*field.into = d.string(base, base+i*wordSize, field.name)
	}
	return t
}

func (d *decoder) jobs(base, at int) []Job {
	elements, n := d.array(base, at, MaxJobs, leastJob, "jobs")
	if n == 0 || !d.head(elements, n, "jobs") {
		return nil
	}
	jobs := make([]Job, n)
	d.enter("jobs")
	defer d.leave()
	for i := 0; i < n && d.err == nil; i++ {
		d.at(i)
		job := d.offset(elements, elements+i*wordSize, "offset")
		if !d.head(job, jobWords, "head") {
			break
		}
		jobs[i] = Job{
			Name:         d.string(job, job, "name"),
			Description:  d.string(job, job+wordSize, "description"),
			MetadataURI:  d.string(job, job+2*wordSize, "metadataUri"),
			ParamsSchema: d.blob(job, job+3*wordSize, "paramsSchema"),
			ResultSchema: d.blob(job, job+4*wordSize, "resultSchema"),
		}
	}
	return jobs
}

func (d *decoder) memberships(base, at int) []uint8 {
	const field = "supportedMemberships"
	elements, n := d.array(base, at, maxMemberships, wordSize, field)
	if n == 0 || !d.head(elements, n, field) {
		return nil
	}
	list := make([]uint8, n)
	for i := range list {
		list[i] = uint8(d.uint(elements+i*wordSize, 8, field))
	}
	return list
}
