// Score by what openapi-generator makes of the document for Go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"score/lossd"
	"score/lossdform"
)

var (
	logits  = []interface{}{[]float64{2, -1.5, 0.25}, []float64{-3, 4, 0}}
	targets = []interface{}{[]float64{1, 0, 0}, []float64{0, 1, 1}}
)

func must[Value any](value Value, err error) Value {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func open(name string) *os.File {
	return must(os.Open(filepath.Join(os.Args[3], name)))
}

func main() {
	configuration := lossd.NewConfiguration()
	configuration.Servers = lossd.ServerConfigurations{{URL: os.Args[1]}}
	losses := lossd.NewAPIClient(configuration).LossesAPI
	ctx := context.WithValue(context.Background(), lossd.ContextAccessToken, os.Args[2])

	bce := lossd.NewBceRequest(targets)
	bce.SetLogits(logits)
	mean, _, err := losses.Bce(ctx).BceRequest(*bce).XRequestId("from-go").Execute()
	must(mean, err)

	focal := lossd.NewFocalRequest(targets)
	focal.SetLogits(logits)
	focal.SetGamma(2)
	focal.SetAlpha(json.RawMessage("null")) // nil would leave it out
	focal.SetAxis(1)
	rows, _, err := losses.Focal(ctx).FocalRequest(*focal).Execute()
	must(rows, err)

	lone := lossd.NewBceRequest([]interface{}{0})
	lone.SetLogits([]interface{}{"Infinity"})
	infinite, _, err := losses.Bce(ctx).BceRequest(*lone).Execute()
	must(infinite, err)

	focal = lossd.NewFocalRequest(targets)
	focal.SetLogits(logits)
	focal.SetGroups([]interface{}{3, 7})
	focal.SetReport([]string{"all"})
	focal.SetTop(1)
	reported, _, err := losses.Focal(ctx).FocalRequest(*focal).Execute()
	report := must(reported, err).Report

	wrong := lossd.NewBceRequest([]interface{}{[]float64{1, 1.5, 0}, []float64{0, 1, 1}})
	wrong.SetLogits(logits)
	_, _, err = losses.Bce(ctx).BceRequest(*wrong).Execute()
	var failed *lossd.GenericOpenAPIError
	if !errors.As(err, &failed) {
		log.Fatal("it was to be refused: ", err)
	}
	refused := failed.Model().(lossd.Problem)

	formed := lossdform.NewConfiguration()
	formed.Servers = lossdform.ServerConfigurations{{URL: os.Args[1]}}
	keyed := context.WithValue(context.Background(), lossdform.ContextAccessToken, os.Args[2])
	files, _, err := lossdform.NewAPIClient(formed).LossesAPI.Focal(keyed).
		Logits(open("x.npy")).Targets(open("y.npy")).Params(`{"gamma": 2}`).Report("totals").Execute()
	must(files, err)

	var later lossd.Alive // as a later server might say
	must(later, json.Unmarshal([]byte(`{"status": "alive", "more": 1}`), &later))

	fmt.Println(string(must(json.Marshal(map[string]interface{}{
		"mean":        mean.Loss,
		"sum_terms":   mean.SumTerms,
		"request_id":  mean.RequestId,
		"rows":        rows.Loss,
		"infinite":    infinite.Sum,
		"report_sum":  report.Totals.Sum,
		"report_rows": report.Totals.Rows,
		"worst":       report.Top.Rows[0].Index,
		"worst_loss":  report.Top.Rows[0].Loss.Float64,
		"groups":      report.Groups.Ids,
		"bins":        report.Calibration.Bins.Int64,
		"code":        refused.Code,
		"status":      refused.Status,
		"retryable":   refused.Retryable,
		"pointer":     refused.Errors[0].Pointer,
		"files":       files.Loss,
		"files_count": files.Report.Totals.Count,
	}))))
}
