package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"galvo/services/api"
	"galvo/services/config"
	"galvo/services/internal/capture"
	"galvo/services/internal/country"
	"galvo/services/internal/filter"
	"galvo/services/internal/flow"
	"galvo/services/internal/l7"
	"galvo/services/internal/l7/protocol"
	"galvo/services/internal/packet"
	"galvo/services/internal/pipeline"
	"galvo/services/internal/savefile"
	"galvo/services/internal/sink"
	"galvo/services/internal/stats"
	"galvo/services/internal/stream"
)

// Sizes of what read uses: it has the machine for itself, and a file's flows do not age out while it is read.
const (
	readFlows      = 1 << 20
	readQueueBytes = 16_000_000
	readHoldBytes  = 1_000_000_000
	readHeapBytes  = 500_000_000 // before the garbage collector comes

	readStreamBytes = 256_000_000 // of what came before in TCP streams, for filters that look there: 100,000 streams
)

// readFlags are the flags of read.
type readFlags struct {
	expression, out, format, undecided, config string
	snap                                       uint
	flows                                      bool
	files                                      []string
	hosts                                      *protocol.Hosts // of the configuration; nil are the built-in ones
}

func readArguments(args []string) (*readFlags, error) {
	var r readFlags
	f := flag.NewFlagSet("read", flag.ContinueOnError)
	f.StringVar(&r.expression, "filter", "", "expert filter `expression`")
	f.StringVar(&r.out, "w", "", "write matching packets to `file`; - is standard output")
	f.StringVar(&r.format, "format", "pcapng", "`format` of -w: pcapng, pcap (microseconds) or pcap-ns (nanoseconds)")
	f.UintVar(&r.snap, "snaplen", 65535, "keep `N` bytes of each packet")
	f.StringVar(&r.undecided, "undecided", "hold", "packets whose flow has no layer-7 verdict yet are `skip` or hold")
	f.BoolVar(&r.flows, "flows", false, "print one CSV row per flow; of several files each one's flows by themselves")
	f.StringVar(&r.config, "config", "", "configuration `file`: groups and links that the filter names, names of servers")
	var err error
	if r.files, err = parse(f, args); err != nil {
		return nil, err
	}
	switch {
	case len(r.files) == 0:
		return nil, wrongUsage("name a savefile, or - for standard input")
	case r.snap < 1 || r.snap > 65535:
		return nil, wrongUsage("-snaplen is 1 to 65535")
	case r.undecided != "skip" && r.undecided != "hold":
		return nil, wrongUsage("-undecided is skip or hold, not %q", r.undecided)
	case r.format != "pcapng" && r.format != "pcap" && r.format != "pcap-ns":
		return nil, wrongUsage("-format is pcapng, pcap or pcap-ns, not %q", r.format)
	case r.flows && r.out != "" && len(r.files) > 1:
		return nil, wrongUsage("-flows and -w together take one file")
	case r.flows && r.out == "-":
		return nil, wrongUsage("-flows has standard output for itself: name a file for -w")
	}
	return &r, nil
}

// read runs savefiles through the pipeline.
func read(ctx context.Context, args []string) error {
	r, err := readArguments(args)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // who reads the output has gone: that is an error of writing, and the last line is printed
	collectLate(readHeapBytes)
	begin := time.Now()
	f, err := readFilter(r)
	if err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintf(os.Stderr, "galvo read: %v\n", err)
		}
		printCounters(os.Stderr, api.Counters{}, 0, time.Since(begin))
		return errReported
	}
	runs := [][]string{r.files}
	if r.flows {
		runs = nil
		for _, name := range r.files {
			runs = append(runs, []string{name})
		}
	}
	var total api.Capture
	var rows *csv.Writer
	if r.flows {
		rows = csv.NewWriter(os.Stdout)
		rows.Write(flowColumns)
	}
	var errs []error
	for _, files := range runs {
		if ctx.Err() != nil {
			break
		}
		c, err := readFiles(ctx, r, f, files, rows)
		if err != nil {
			errs = append(errs, err)
		}
		total.Captured += c.Captured
		total.Dropped += c.Dropped
		total.Ignored += c.Ignored
		total.Held += c.Held
		total.Lost += c.Lost
		total.Bytes += c.Bytes
	}
	if rows != nil {
		rows.Flush()
		errs = append(errs, rows.Error())
	}
	err = errors.Join(errs...)
	if err != nil {
		fmt.Fprintf(os.Stderr, "galvo read: %v\n", err)
		err = errReported
	}
	printCounters(os.Stderr, total.Counters, total.Bytes, time.Since(begin))
	return err
}

// readFilter compiles the expression.
func readFilter(r *readFlags) (*filter.Filter, error) {
	c, err := readConfig(r.config)
	if err != nil {
		return nil, err
	}
	if r.hosts, err = readHosts(c.Engine.Hosts); err != nil {
		return nil, err
	}
	env := readEnv(c, r.expression)
	f, err := filter.Compile(r.expression, env)
	if err != nil {
		return nil, reportFilter(r.expression, err)
	}
	return f, nil
}

// readConfig reads the configuration of -config; without one it is that of a first start.
func readConfig(name string) (*config.Config, error) {
	if name == "" {
		return config.Default(), nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c, err := config.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// readHosts reads the user's names of servers. Without a file it is nil, which stands for the program's own: they take a moment to load, and not every
// filter needs them.
func readHosts(name string) (*protocol.Hosts, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("engine.hosts: %w", err)
	}
	hosts, err := protocol.ReadHosts(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return hosts, nil
}

// readEnv is what the expression is compiled against: the groups and links of a configuration, and the country table if it may be needed.
func readEnv(c *config.Config, expression string) *filter.Env {
	env := &filter.Env{
		Guesses: c.Engine.Guesses,
		Tunnels: filter.TunnelViews[c.Filter.TunnelView], Fragments: filter.FragmentUses[c.Filter.Fragments], SCTP: c.Filter.SCTPPorts,
	}
	for i, p := range c.Ports {
		env.Ports = append(env.Ports, filter.Port{ID: i + 1, Name: p.Name, Link: p.Link})
	}
	for _, g := range c.Groups {
		env.Groups = append(env.Groups, filter.Group(g))
	}
	if strings.Contains(strings.ToLower(expression), "country") { // the table takes a moment to load
		if table, err := country.Open(c.Engine.Geoip); err == nil {
			env.Country = table // without it the filter's error says what to install
		}
	}
	return env
}

// readFiles runs files, merged in time order, through one worker. The error is about a file or the output; what could be read was.
func readFiles(ctx context.Context, r *readFlags, f *filter.Filter, files []string, rows *csv.Writer) (api.Capture, error) {
	source, err := savefile.Open(files, interruptible(ctx, os.Stdin))
	if err != nil {
		return api.Capture{}, err
	}
	defer source.Close()
	var engine *l7.Engine
	table := flow.Config{Flows: readFlows, Sparse: true}
	var list *flowList
	summary := r.out == "" && !r.flows
	if f.NeedsL7() || r.flows || summary {
		engine = l7.New(l7.Config{Guess: true, Hosts: r.hosts})
		table.OnEnd = engine.End
	}
	if r.flows {
		list = &flowList{file: filepath.Base(files[0]), engine: engine, byKey: make(map[flowKey]int)}
		table.OnEnd = list.end
	}
	worker := &pipeline.Worker{Source: source, L7: engine, OnPanic: func(p *pipeline.Panic) {
		fmt.Fprintf(os.Stderr, "galvo read: %v; this is a fault in Galvo, please report it. The packet goes on without its application protocol.\nflow: %s\nframe: %s\n%s\n",
			p, p.Flow, p.Frame, p.Stack)
	}}
	if engine == nil { // an engine looks at all flows, of which one tells of another
		table.Only = f.Followed()
	}
	if engine != nil || f.NeedsFlow() {
		worker.Flows = flow.New(table)
	} else { // to find the flow of each packet would take a third of the time
		worker.Joiner = flow.NewJoiner(table)
	}
	if f.StreamReach() > 0 {
		worker.Streams = stream.New(readStreamBytes)
	}
	told := source.Section()
	captures, err := capture.New(capture.Options{
		Source: capture.Source{Workers: 1, Interfaces: source.Interfaces}, Max: 1, Hardware: told.Hardware, OS: told.OS, Application: "Galvo " + version,
	})
	if err != nil {
		return api.Capture{}, err
	}
	out, closeOut, err := readSink(r.out, files)
	if err != nil {
		return api.Capture{}, err
	}
	defer closeOut()
	c, err := captures.Start(capture.Spec{
		Sink: "disk", Source: "savefile", FileName: r.out, Comment: told.Comment, Expression: f.String(), Filter: f, Hold: r.undecided == "hold",
		SnapLen: uint32(r.snap), Format: capture.Format(r.format), QueueBytes: readQueueBytes, HoldBytes: readHoldBytes, Block: true,
	})
	if err != nil {
		return api.Capture{}, err
	}
	var counts *stats.Stats
	if summary {
		counts = stats.New(1)
		worker.Stages = append(worker.Stages, counts.Stage(0))
	}
	worker.Stages = append(worker.Stages, captures.Stage(0))

	reading, stop := context.WithCancel(ctx)
	defer stop()
	writing, giveUp := later(ctx, writeGrace)
	defer giveUp()
	ended := make(chan error, 1)
	go func() {
		err := c.Run(writing, out)
		if err != nil && list == nil { // nothing looks at the rest any more
			stop()
		}
		ended <- err
	}()
	<-c.Attached()
	readErr := worker.Run(reading)
	captures.Stage(0).Finish()
	c.Finish("end of the savefile")
	runErr := <-ended
	if readErr != nil && ctx.Err() != nil {
		readErr = errInterrupted
	} else if errors.Is(readErr, context.Canceled) {
		readErr = nil // there was nowhere to write to any more
	}
	var end *sink.End
	if errors.As(runErr, &end) && end.Err != nil {
		runErr = end.Err
	}
	reportLinks(os.Stderr, source.Interfaces())
	if note := source.Progress().Note(); note != "" {
		fmt.Fprintf(os.Stderr, "galvo read: %s\n", note)
	}
	if list != nil {
		list.rest(worker.Flows)
		list.print(rows)
	}
	done := captures.Finished()[0]
	if n := done.Forgotten; n > 0 {
		fmt.Fprintf(os.Stderr, "galvo read: %d TCP packets were judged without what came before in their stream, because there was no memory to keep that\n", n)
	}
	var sumErr error
	if summary {
		sumErr = printSummary(os.Stdout, source, counts, worker.Flows, &done)
	}
	return done, errors.Join(readErr, runErr, sumErr, closeOut())
}

// reportLinks says which link types of the savefiles are not looked into: an expression about addresses finds nothing there.
func reportLinks(w io.Writer, table []pipeline.Interface) {
	said := make(map[packet.LinkType]bool)
	for _, in := range table {
		if !in.Link.Known() && !said[in.Link] {
			said[in.Link] = true
			fmt.Fprintf(w, "galvo read: frames of link type %d are not looked into: for an expression they have a length, an interface and bytes, but no addresses, ports or protocols; -w writes them as they are\n", in.Link)
		}
	}
}

// readSink opens the file of -w, which must not be one of those that are read. It may be closed twice.
func readSink(name string, files []string) (sink.Sink, func() error, error) {
	switch name {
	case "":
		return sink.Discard{}, func() error { return nil }, nil
	case "-":
		return sink.NewWriter(os.Stdout, "standard output"), func() error { return nil }, nil
	}
	if err := notRead(name, files); err != nil {
		return nil, nil, err
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, nil, err
	}
	return sink.NewWriter(f, name), sync.OnceValue(f.Close), nil
}

// notRead says so if the file of -w is one of those that are read.
func notRead(name string, files []string) error {
	out, err := os.Stat(name)
	if err != nil || !out.Mode().IsRegular() {
		return nil
	}
	for _, file := range files {
		if in, err := os.Stat(file); err == nil && os.SameFile(in, out) {
			return fmt.Errorf("%s is read and written: give -w another name", name)
		}
	}
	return nil
}

var flowColumns = []string{"file", "l4", "ip_a", "port_a", "ip_b", "port_b", "protocol", "app", "hostname", "category", "dpi_packets", "packets", "bytes", "state"}

// A flowList collects the rows of -flows: one per 5-tuple. What the flow table ends because it was silent for long, or opened anew, is several flows for a
// filter, and one row here.
type flowList struct {
	file   string
	engine *l7.Engine
	byKey  map[flowKey]int // index in flows
	flows  []flowSum
}

// A flowKey is a 5-tuple, the lower endpoint first.
type flowKey struct {
	addr  [2]netip.Addr
	port  [2]uint16
	proto uint8
}

// A flowSum is what is known about a 5-tuple.
type flowSum struct {
	addr           [2]netip.Addr // the first packet's sender first
	port           [2]uint16
	proto          uint8
	verdict        l7.Verdict
	host           string
	dpi            int // packets up to the verdict
	packets, bytes uint64
}

// end adds a record that leaves the table.
func (l *flowList) end(r *flow.Record) {
	l.add(r)
	l.engine.End(r)
}

// rest adds the records that are left at the end of the file.
func (l *flowList) rest(t *flow.Table) {
	for r := range t.All() {
		l.add(r)
	}
}

// add counts a record in its row. The first verdict counts.
func (l *flowList) add(r *flow.Record) {
	if r.Flags&flow.Outside != 0 {
		return
	}
	f := flowSum{addr: [2]netip.Addr{address(r, 0), address(r, 1)}, port: r.Port, proto: r.Proto}
	key := flowKey{f.addr, f.port, f.proto}
	if c := f.addr[0].Compare(f.addr[1]); c > 0 || c == 0 && f.port[0] > f.port[1] {
		key.addr[0], key.addr[1], key.port[0], key.port[1] = key.addr[1], key.addr[0], key.port[1], key.port[0]
	}
	i, ok := l.byKey[key]
	if !ok {
		i = len(l.flows)
		l.flows, l.byKey[key] = append(l.flows, f), i
	}
	sum := &l.flows[i]
	v := l.engine.Finish(r)
	if !ok || better(v, sum.verdict) {
		sum.verdict, sum.host = v, string(l.engine.HostName(r))
		if n := l7.DPIPackets(r); n > 0 {
			sum.dpi = int(sum.packets) + n
		}
	}
	sum.packets += uint64(r.Packets[0]) + uint64(r.Packets[1])
	sum.bytes += r.Bytes(0) + r.Bytes(1)
}

// better reports whether a verdict says more than the one before it.
func better(v, before l7.Verdict) bool {
	return before.State == l7.Unknown && v.State != l7.Unknown || before.State == l7.Guessed && v.State == l7.Final
}

// print writes the rows.
func (l *flowList) print(rows *csv.Writer) {
	for i := range l.flows {
		f := &l.flows[i]
		carrier, app := f.verdict.Listed()
		name, category := protocol.Name(carrier), protocol.Category(carrier)
		if name == "" {
			name = "Unknown"
		}
		if app != 0 && protocol.Category(app) != "" {
			category = protocol.Category(app)
		}
		rows.Write([]string{
			l.file, l4Name(f.proto), f.addr[0].String(), strconv.Itoa(int(f.port[0])), f.addr[1].String(), strconv.Itoa(int(f.port[1])),
			name, protocol.Name(app), f.host, category, strconv.Itoa(f.dpi), strconv.FormatUint(f.packets, 10), strconv.FormatUint(f.bytes, 10), f.verdict.State.String(),
		})
	}
}

func address(r *flow.Record, side int) netip.Addr {
	if r.Flags&flow.V6 != 0 {
		return netip.AddrFrom16(r.Addr[side])
	}
	return netip.AddrFrom4([4]byte(r.Addr[side][:4]))
}

// l4Name names the IP protocols that a flow list is usually about, and numbers the others.
func l4Name(proto uint8) string {
	switch proto {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 58:
		return "icmp6"
	case 132:
		return "sctp"
	}
	return strconv.Itoa(int(proto))
}

// printSummary says what is in the savefiles, and what the filter took of it.
func printSummary(to io.Writer, source *savefile.Source, counts *stats.Stats, flows *flow.Table, c *api.Capture) error {
	w := bufio.NewWriter(to)
	counts.Tick(math.MaxInt64)
	table := source.Interfaces()
	fmt.Fprintf(w, "frames      %d\nmatching    %d\nflows       %d\ninterfaces  %d\n", c.Captured+c.Ignored+c.Dropped+c.Held, c.Captured, flows.Counters().Created, len(table))
	fmt.Fprintf(w, "\n%-6s %-20s %12s %15s\n", "layer", "protocol", "packets", "bytes")
	for _, p := range counts.Protocols() {
		fmt.Fprintf(w, "%-6s %-20s %12d %15d\n", p.Layer, p.Name, p.Packets, p.Bytes)
	}
	return w.Flush()
}
