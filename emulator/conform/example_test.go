package conform_test

import (
	"context"
	"fmt"

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
	// line 9: > 00 20 00 81
	// want < 63C3
	// got  < 63C2
}
