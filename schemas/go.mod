module github.com/millrace/millrace/schemas

go 1.26
