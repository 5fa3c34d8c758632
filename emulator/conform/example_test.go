package conform_test

import (
	"context"
	"fmt"
	"regexp"

	"hsmemu/emulator"
	"hsmemu/emulator/chip"
	"hsmemu/emulator/conform"
	"hsmemu/vsmartcard"
)

// A wrong PIN has to cost a try. Whoever expects that it costs none is told what
// the card does instead.
func Example() {
	script, err := conform.Parse(`card A 4.1
> 00 A4 04 0C Lc(E82B0601040181C31F0201)
> 80 50 00 00 Lc(80(0001) 81("648219") 82(3537363231383830) 91(03))
cut
> 00 A4 04 0C Lc(E82B0601040181C31F0201)
> 00 20 00 81 Lc("000000")
< 63C2
> 00 20 00 81
< 63C3`)
	if err != nil {
		panic(err) // a line that is not understood
	}
	player := conform.NewPlayer(func(_, firmware string) (vsmartcard.Card, error) {
		return emulator.NewCard(chip.Order{Firmware: firmware}, emulator.System())
	})
	fmt.Println(player.Play(context.Background(), script))
	// Output:
	// line 9: 00200081
	// want < 63C3
	// got  < 63C2
}

// Two rules of the library, judged on new cards that are broken on purpose: VERIFY
// Two rules of the library, judged on new cards that are broken on purpose: they
// compare a PIN before they save that a try is spent.
func ExampleJudge() {
	library, err := conform.Rules()
	if err != nil {
		panic(err) // a mistake in the library
	}
	target := conform.Target{Name: "a new card", Make: func() (vsmartcard.Card, error) {
		card, err := emulator.System().Manufacture(chip.Order{Firmware: "4.1", Broken: "compares-before-it-charges"})
		if err != nil {
			return nil, err
		}
		return emulator.NewTorn(card, emulator.System())
	}}
	report, err := conform.Judge(context.Background(), library, target, conform.Options{
		Only: regexp.MustCompile("^PIN-R2[12]$"),
		Vars: conform.Vars{"pin": []byte("648219"), "so-pin": []byte("57621880")}, // that the cards get
	})
	if err != nil {
		panic(err) // the card cannot be made, or the context has ended
	}
	for _, one := range report.Results {
		if one.Why != "not asked for" {
			fmt.Println(one.ID, one.Verdict)
		}
	}
	// Output:
	// PIN-R21 held
	// PIN-R22 broken
}
