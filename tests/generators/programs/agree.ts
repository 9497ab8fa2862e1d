// The types of the TypeScript client, against those that openapi-typescript makes of the document; not run.

import type { components } from "./lossd.js";
import type * as client from "./types.js";

type Schemas = components["schemas"];

// Each way: what the document says is what the client's types say, and the other way round.
declare const report: Schemas["Report"];
declare const ours: client.Report;
report satisfies client.Report;
ours satisfies Schemas["Report"];

declare const info: Schemas["Info"];
declare const ourInfo: client.Info;
info satisfies client.Info;
ourInfo satisfies Schemas["Info"];

declare const usage: Schemas["Usage"];
declare const ourUsage: client.Usage;
usage satisfies client.Usage;
ourUsage satisfies Schemas["Usage"];

// Figures of an answer that the client passes on as they are, by the same names.
declare const answer: Schemas["LossAnswer"];
declare const figure: Exclude<keyof Schemas["LossAnswer"], "report">;
figure satisfies keyof client.LossResult;
answer.count satisfies client.LossResult["count"];
answer.reduction satisfies client.LossResult["reduction"];
answer.shape satisfies client.LossResult["shape"];
answer.params satisfies client.LossResult["params"];
answer.options satisfies client.LossResult["options"];
answer.notes satisfies client.LossResult["notes"];

// Names of parameters are the document's, and none is missing.
type Tensors = "logits" | "probabilities" | "targets" | "weight" | "mask" | "groups" | "ids" | "baseline";
type Sent = Exclude<keyof Schemas["FocalRequest"], Tensors>;
type Ours = keyof (client.FocalParams & client.Reduction & client.ReportParams);
type Renamed = Exclude<Sent, "report" | "group_names"> | "sections" | "groups" | "ids" | "baseline";
declare const sent: Renamed;
declare const given: Ours;
sent satisfies Ours;
given satisfies Renamed;
