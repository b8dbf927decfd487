package standalone

import (
	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/store"
)

// auditor holds what the stores of this process have against the books.
func (p *plant) auditor() *books.Auditor {
	a := books.NewAuditor(p.bus, p.reader, p.progress)
	a.Now = p.process.Now
	return a
}

// progress returns how far a table has come, as far as that can be reached from here.
func (p *plant) progress(table string) books.Progress {
	if elsewhere := p.stores.Progress(table); elsewhere != nil {
		return elsewhere
	}
	switch {
	case p.db == nil:
		return nil
	case table == store.TableMessages:
		return p.history.Progress
	case table == store.TableLogs:
		return p.db.Logs().Progress
	}
	return nil
}
