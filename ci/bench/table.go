package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// A table collects what each row costs in each round. Row 0 is what the others are compared with.
type table struct {
	title string
	unit  string
	per   time.Duration // what the unit is
	rows  []row
}

type row struct {
	name  string
	goal  float64 // the ratio to row 0 may be at most this; 0 means that there is no goal
	costs []time.Duration
}

func newTable(title string, rows int) *table {
	return &table{title: title, unit: "us/frame", per: time.Microsecond, rows: make([]row, rows)}
}

func (t *table) add(i int, name string, goal float64, cost time.Duration) {
	t.rows[i].name, t.rows[i].goal = name, goal
	t.rows[i].costs = append(t.rows[i].costs, cost)
}

func (t *table) print() {
	fmt.Printf("\n%s\n", t.title)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\t%s\tratio\tof single rounds\tgoal\t\t\n", t.unit)
	for _, r := range t.rows {
		if len(r.costs) == 0 {
			continue
		}
		var ratios []float64
		for round, cost := range r.costs {
			ratios = append(ratios, over(cost, t.rows[0].costs[round]))
		}
		least := slices.Min(r.costs)
		ratio := over(least, slices.Min(t.rows[0].costs))
		goal, verdict := "", ""
		if r.goal > 0 {
			goal, verdict = fmt.Sprintf("<= %.2f", r.goal), "reached"
			if ratio > r.goal {
				verdict = "MISSED"
			}
		}
		fmt.Fprintf(w, "%s\t%.3f\t%.2f\t%.2f to %.2f\t%s\t%s\t\n", r.name, float64(least)/float64(t.per), ratio, slices.Min(ratios), slices.Max(ratios), goal, verdict)
	}
	_ = w.Flush() // to standard output
}

func over(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }
