package cli

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/cost"
)

// chart draws the cost of a month over the number of calls: one line for each provider, and one for
// the machine that could run the jobs instead. Both axes are logarithmic.
type chart struct {
	width    int
	currency string
	jobs     int
	machine  *cost.Machine
	lines    []chartLine
	calls    uint64 // of each job, as asked for; 0: not asked
}

// chartLine is the line of one provider.
type chartLine struct {
	provider  string
	covers    int // jobs
	breakEven float64
	calls     []float64 // of each job
	costs     []float64
}

const (
	leastCalls, mostCalls = 1e3, 1e10
	leastCost             = 0.1 // less is practically free, and a logarithmic axis has no zero
)

// newChart estimates the costs along the axis. A provider that runs none of the jobs has no line.
func newChart(meta *serverless.Metadata, in cost.Input, providers []string, width int) (*chart, error) {
	c := &chart{width: width, jobs: len(meta.Jobs), calls: in.CallsPerMonth}
	in.JobCalls = nil
	most := 1e6
	for _, name := range providers {
		in.CallsPerMonth = 1e6
		month, err := cost.ForProvider(meta, name, in)
		if err != nil {
			return nil, err
		}
		if len(month.Jobs) == 0 {
			continue
		}
		c.currency, c.machine = month.Currency, month.Machine
		line := chartLine{provider: name, covers: len(month.Jobs),
			breakEven: float64(month.BreakEvenCalls) / float64(len(month.Jobs))}
		most = max(most, line.breakEven*10)
		c.lines = append(c.lines, line)
	}
	if len(c.lines) == 0 {
		return nil, usagef("--svg: no job fits a provider with known prices")
	}
	most = min(max(most, float64(c.calls)), mostCalls)
	most = math.Pow(10, math.Ceil(math.Log10(most)-1e-9))
	for i := range c.lines {
		if err := c.lines[i].estimate(meta, in, most); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// estimate adds the points from where the line leaves the bottom of the chart. It adds only as many
// as show the shape, because more would be rounded to the same pixels.
func (l *chartLine) estimate(meta *serverless.Metadata, in cost.Input, most float64) error {
	var failed error
	at := func(calls float64) float64 {
		in.CallsPerMonth = uint64(math.Round(calls))
		month, err := cost.ForProvider(meta, l.provider, in)
		if err != nil {
			failed = err
			return leastCost
		}
		return month.Total
	}
	from := leastCalls
	if at(from) < leastCost {
		for high := most; high/from > 1.001; {
			if middle := math.Sqrt(from * high); at(middle) < leastCost {
				from = middle
			} else {
				high = middle
			}
		}
	}
	add := func(calls, cost float64) {
		l.calls, l.costs = append(l.calls, calls), append(l.costs, max(cost, leastCost))
	}
	var between func(x1, y1, x2, y2 float64, depth int)
	between = func(x1, y1, x2, y2 float64, depth int) {
		const visible = 1.02 // a hundredth of a decade's height
		middle := math.Sqrt(x1 * x2)
		cost := max(at(middle), leastCost)
		straight := math.Sqrt(y1 * y2)
		if off := max(cost/straight, straight/cost); depth < 3 || off > visible && x2/x1 > 1.01 {
			between(x1, y1, middle, cost, depth+1)
			between(middle, cost, x2, y2, depth+1)
			return
		}
		add(x2, y2)
	}
	first, last := max(at(from), leastCost), max(at(most), leastCost)
	add(from, first)
	between(from, first, most, last, 0)
	return failed
}

// Color-blind readers can tell these colors apart on white, too. The dark scheme replaces each by
// its partner.
var (
	paper  = shade{drawing.ColorFromHex("ffffff"), "#0d1117"}
	ink    = shade{drawing.ColorFromHex("1f2328"), "#e6edf3"}
	pale   = shade{drawing.ColorFromHex("59636e"), "#9198a1"}
	rules  = shade{drawing.ColorFromHex("d8dee4"), "#30363d"}
	shades = []shade{
		{drawing.ColorFromHex("b35900"), "#ffa657"},
		{drawing.ColorFromHex("0550ae"), "#79c0ff"},
		{drawing.ColorFromHex("8250df"), "#d2a8ff"},
		{drawing.ColorFromHex("116329"), "#56d364"},
	}
)

type shade struct {
	light drawing.Color
	dark  string
}

// darkScheme is the style sheet for dark mode. The drawing has its colors in style attributes.
func darkScheme() string {
	var b strings.Builder
	b.WriteString("@media (prefers-color-scheme: dark) {\n")
	for _, s := range append([]shade{paper, ink, pale, rules}, shades...) {
		for _, property := range []string{"fill", "stroke"} {
			fmt.Fprintf(&b, "[style*=\"%s:%s\"] { %s: %s !important }\n", property, s.light, property, s.dark)
		}
	}
	b.WriteString("}")
	return b.String()
}

const (
	fontSize     = 9.5 // in points, 12.7 pixels
	lineHeight   = 17
	smallestWide = 320
	narrow       = 520 // below this width names are shortened
)

// render writes the chart as SVG.
func (c *chart) render(w io.Writer) error {
	highest := 1.0
	fewest, most := math.Inf(1), 0.0
	for _, line := range c.lines {
		fewest, most = min(fewest, line.calls[0]), max(most, line.calls[len(line.calls)-1])
		highest = max(highest, slices.Max(line.costs))
	}
	if c.machine != nil {
		highest = max(highest, c.machine.Total)
	}
	if c.calls >= leastCalls {
		fewest = min(fewest, float64(c.calls))
	}
	xs, ys := newDecades(min(fewest, most/1000), most), newDecades(leastCost, highest)
	text := chartdraw.Style{FontStyle: chartdraw.FontStyle{FontSize: fontSize, FontColor: pale.light},
		StrokeColor: rules.light, StrokeWidth: 1}
	grid := chartdraw.Style{StrokeColor: rules.light, StrokeWidth: 1}
	legend := c.legend()
	top := 30 + lineHeight*(len(legend)+1)
	marks := []endLabel{}
	graph := chartdraw.Chart{
		Width: c.width, Height: top + min(max(260, c.width*5/12), 600), Background: chartdraw.Style{
			FillColor: paper.light, StrokeColor: paper.light,
			Padding: chartdraw.Box{Top: top, Left: 14, Right: 0, Bottom: 14, IsSet: true},
		},
		Canvas: chartdraw.Style{FillColor: paper.light, StrokeColor: paper.light},
		XAxis: chartdraw.XAxis{
			Name: c.axis(), NameStyle: text, Style: text, Range: xs, Ticks: xs.ticks(c.width < narrow), GridMajorStyle: grid,
			GridMinorStyle: grid,
		},
		YAxis: chartdraw.YAxis{Style: text, Range: ys, Ticks: ys.ticks(false), AxisType: chartdraw.YAxisSecondary,
			GridMajorStyle: grid, GridMinorStyle: grid},
		YAxisSecondary: chartdraw.YAxis{Style: chartdraw.Hidden()},
	}
	add := func(name string, s shade, xv, yv []float64, dash []float64) {
		graph.Series = append(graph.Series, chartdraw.ContinuousSeries{
			Name: name, XValues: xv, YValues: yv, Style: chartdraw.Style{
				StrokeColor: s.light, StrokeWidth: 2, StrokeDashArray: dash},
		})
		marks = append(marks, endLabel{c.short(name), s, yv[len(yv)-1]})
	}
	if c.machine != nil {
		add(c.machine.Name, ink, []float64{xs.min, most}, []float64{c.machine.Total, c.machine.Total}, []float64{6, 4})
	}
	for i, line := range c.lines {
		add(line.provider, shades[i%len(shades)], line.calls, line.costs, nil)
	}
	graph.Background.Padding.Right = c.margin(marks)
	graph.Elements = []chartdraw.Renderable{
		func(r chartdraw.Renderer, box chartdraw.Box, _ chartdraw.Style) {
			c.drawAsked(r, box, xs)
			c.drawBreakEvens(r, box, xs, ys)
			drawEndLabels(r, box, ys, marks)
			c.drawHead(r, legend)
		},
	}
	var b strings.Builder
	if err := graph.Render(chartdraw.SVGWithCSS(darkScheme(), ""), &b); err != nil {
		return err
	}
	// The library sets no size, and no name for readers who cannot see the chart.
	head := fmt.Sprintf("<svg width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"%s\" ", graph.Width, graph.Height,
		c.title())
	_, err := io.WriteString(w, strings.Replace(b.String(), "<svg ", head, 1)+"\n")
	return err
}

func (c *chart) title() string {
	return fmt.Sprintf("What a month costs at list prices, in %s", c.currency)
}

func (c *chart) axis() string {
	if c.jobs > 1 {
		return "calls of each job in a month"
	}
	return "calls in a month"
}

// short is the name at the end of a line.
func (c *chart) short(name string) string {
	if cut, _, ok := strings.Cut(name, "-"); ok && c.width < narrow {
		return cut
	}
	return name
}

type legendRow struct {
	shade
	text   string
	dashed bool
}

// legend explains each line and where it crosses the machine's line.
func (c *chart) legend() []legendRow {
	var rows []legendRow
	for i, line := range c.lines {
		text := line.provider
		if line.covers < c.jobs {
			text += fmt.Sprintf(" (%d of %d jobs)", line.covers, c.jobs)
		}
		switch {
		case c.machine == nil:
		case line.breakEven > 0:
			text += ": as much as the machine at " + short(line.breakEven)
			if c.width >= narrow {
				text += " calls"
			}
		default:
			text += ": never as much as the machine"
			if line.costs[0] >= c.machine.Total {
				text = line.provider + ": always dearer than the machine"
			}
		}
		rows = append(rows, legendRow{shades[i%len(shades)], text, false})
	}
	if c.machine != nil {
		rows = append(rows, legendRow{ink, fmt.Sprintf("%s, a machine for every job: %.2f %s", c.machine.Name,
			c.machine.Total, c.currency), true})
	}
	return rows
}

func (c *chart) drawHead(r chartdraw.Renderer, rows []legendRow) {
	write(r, c.title(), 14, 24, ink, 1.2)
	for i, row := range rows {
		y := 24 + lineHeight*(i+1)
		style := chartdraw.Style{StrokeColor: row.light, StrokeWidth: 2}
		if row.dashed {
			style.StrokeDashArray = []float64{6, 4}
		}
		stroke(r, style, 14, y-4, 36, y-4)
		write(r, row.text, 42, y, ink, 1)
	}
}

// drawAsked marks the number of calls that the user asked for.
func (c *chart) drawAsked(r chartdraw.Renderer, box chartdraw.Box, xs *decades) {
	if float64(c.calls) < xs.min || float64(c.calls) > xs.max {
		return
	}
	x := box.Left + xs.Translate(float64(c.calls))
	stroke(r, chartdraw.Style{StrokeColor: pale.light, StrokeWidth: 1, StrokeDashArray: []float64{2, 3}}, x, box.Top, x,
		box.Bottom)
	text := short(float64(c.calls)) + " calls"
	width := measure(r, text)
	left := x + 4
	if left+width > box.Right {
		left = x - 4 - width
	}
	write(r, text, left, box.Top+12, pale, 1)
}

func (c *chart) drawBreakEvens(r chartdraw.Renderer, box chartdraw.Box, xs, ys *decades) {
	if c.machine == nil {
		return
	}
	for i, line := range c.lines {
		if line.breakEven < xs.min || line.breakEven > xs.max {
			continue
		}
		x, y := box.Left+xs.Translate(line.breakEven), box.Bottom-ys.Translate(c.machine.Total)
		chartdraw.Style{FillColor: paper.light, StrokeColor: shades[i%len(shades)].light, StrokeWidth: 2}.WriteToRenderer(r)
		r.Circle(4.5, x, y)
		r.MoveTo(x, y)
		r.FillStroke()
	}
}

// endLabel is the name at the end of a line.
type endLabel struct {
	text string
	shade
	cost float64
}

// margin returns the width that the labels need beside the chart.
func (c *chart) margin(labels []endLabel) int {
	r := chartdraw.SVG(1, 1)
	r.SetDPI(drawing.DefaultDPI)
	width := 0
	for _, l := range labels {
		width = max(width, measure(r, l.text))
	}
	return width + 16
}

// drawEndLabels writes the names so that they do not overlap.
func drawEndLabels(r chartdraw.Renderer, box chartdraw.Box, ys *decades, labels []endLabel) {
	const apart = 15
	slices.SortStableFunc(labels, func(a, b endLabel) int { return cmp.Compare(b.cost, a.cost) }) // from the top
	at := make([]int, len(labels))
	for i, l := range labels {
		at[i] = box.Bottom - ys.Translate(l.cost)
		if i > 0 {
			at[i] = max(at[i], at[i-1]+apart)
		}
	}
	for i := len(at) - 1; i >= 0; i-- { // move labels below the bottom back up
		lowest := box.Bottom
		if i < len(at)-1 {
			lowest = at[i+1] - apart
		}
		at[i] = min(at[i], lowest)
	}
	for i, l := range labels {
		write(r, l.text, box.Right+7, at[i]+4, l.shade, 1)
	}
}

func write(r chartdraw.Renderer, text string, x, y int, s shade, size float64) {
	chartdraw.Style{FontStyle: chartdraw.FontStyle{
		FontSize: fontSize * size, FontColor: s.light, Font: chartdraw.GetDefaultFont()}}.WriteToRenderer(r)
	r.Text(text, x, y)
}

func measure(r chartdraw.Renderer, text string) int {
	chartdraw.Style{FontStyle: chartdraw.FontStyle{FontSize: fontSize, Font: chartdraw.GetDefaultFont()}}.WriteToRenderer(
		r)
	box := r.MeasureText(text)
	return box.Width()
}

func stroke(r chartdraw.Renderer, style chartdraw.Style, x1, y1, x2, y2 int) {
	style.WriteToRenderer(r)
	r.MoveTo(x1, y1)
	r.LineTo(x2, y2)
	r.Stroke()
}

// decades is a logarithmic axis over whole decades. The library's own begins at 1 and serves only
// one axis.
type decades struct {
	min, max float64
	domain   int
}

var _ chartdraw.Range = (*decades)(nil)

func newDecades(low, high float64) *decades {
	const grace = 1e-9 // the error of logarithms of powers of ten
	return &decades{min: math.Pow(10, math.Floor(math.Log10(low)+grace)),
		max: math.Pow(10, math.Ceil(math.Log10(high)-grace))}
}

func (d *decades) String() string       { return fmt.Sprintf("%g to %g", d.min, d.max) }
func (d *decades) IsZero() bool         { return d.max == 0 }
func (d *decades) GetMin() float64      { return d.min }
func (d *decades) GetMax() float64      { return d.max }
func (d *decades) GetDelta() float64    { return d.max - d.min }
func (d *decades) GetDomain() int       { return d.domain }
func (d *decades) SetDomain(domain int) { d.domain = domain }
func (d *decades) IsDescending() bool   { return false }

// the library would use the outermost ticks, which may lie within the decades
func (d *decades) SetMin(float64) {}
func (d *decades) SetMax(float64) {}

// Translate returns the distance of a value from the beginning in pixels.
func (d *decades) Translate(value float64) int {
	share := math.Log10(max(value, d.min)/d.min) / math.Log10(d.max/d.min)
	return int(math.Round(share * float64(d.domain)))
}

// ticks returns every power of ten, or every other one if there are too many.
func (d *decades) ticks(few bool) []chartdraw.Tick {
	count := int(math.Round(math.Log10(d.max / d.min)))
	step := 1
	if few && count > 4 {
		step = 2
	}
	var ticks []chartdraw.Tick
	for i := 0; i <= count; i += step {
		value := d.min * math.Pow(10, float64(i))
		ticks = append(ticks, chartdraw.Tick{Value: value, Label: short(value)})
	}
	return ticks
}

// short writes a number with three digits: 0.1, 10, 1k, 4.24M.
func short(x float64) string {
	unit := ""
	for _, larger := range []string{"k", "M", "B", "T"} {
		if x < 999.5 {
			break
		}
		x, unit = x/1000, larger
	}
	figures := 2
	if x >= 9.995 {
		figures = 1
	}
	if x >= 99.95 {
		figures = 0
	}
	scale := math.Pow(10, float64(figures))
	return strconv.FormatFloat(math.Round(x*scale)/scale, 'f', -1, 64) + unit
}
