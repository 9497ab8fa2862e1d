import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.NullNode;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import lossd.api.LossesApi;
import lossd.api.LossesApi.*;
import lossd.ApiClient;
import lossd.ApiException;
import lossd.model.*;

/** Score by what openapi-generator makes of the document for Java. */
public class Score {
    static final List<Object> LOGITS = List.of(List.of(2.0, -1.5, 0.25), List.of(-3.0, 4.0, 0.0));
    static final List<Object> TARGETS = List.of(List.of(1, 0, 0), List.of(0, 1, 1));

    /** Sends a file's bytes, of which the library `native` would send the name. */
    static class FileMapper extends ObjectMapper {
        FileMapper(ObjectMapper usual) {
            super(usual);
        }

        @Override
        public ObjectMapper copy() {
            return new FileMapper(this);
        }

        @Override
        public byte[] writeValueAsBytes(Object value) throws JsonProcessingException {
            try {
                if (value instanceof File) return Files.readAllBytes(((File) value).toPath());
                return super.writeValueAsBytes(value);
            } catch (JsonProcessingException error) {
                throw error;
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0], key = arguments[1], folder = arguments[2];
        ApiClient client = new ApiClient();
        client.updateBaseUri(url);
        client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + key));
        LossesApi losses = new LossesApi(client);

        BceRequest bce = new BceRequest().logits(LOGITS).targets(TARGETS);
        LossAnswer mean = losses.bce(APIBceRequest.newBuilder().bceRequest(bce).xRequestId("from-java").build());
        FocalRequest focal = new FocalRequest().logits(LOGITS).targets(TARGETS).gamma(2.0)
            .alpha(NullNode.instance).axis(1); // null would leave it out
        LossAnswer rows = losses.focal(APIFocalRequest.newBuilder().focalRequest(focal).build());
        BceRequest lone = new BceRequest().logits(List.of("Infinity")).targets(List.of(0));
        LossAnswer infinite = losses.bce(APIBceRequest.newBuilder().bceRequest(lone).build());
        FocalRequest asked = new FocalRequest().logits(LOGITS).targets(TARGETS)
            .groups(List.of(3, 7)).report(List.of("all")).top(1L);
        Report report = losses.focal(APIFocalRequest.newBuilder().focalRequest(asked).build()).getReport();
        Problem refused;
        try {
            BceRequest wrong = new BceRequest().logits(LOGITS).targets(
                List.of(List.of(1, 1.5, 0), List.of(0, 1, 1)));
            losses.bce(APIBceRequest.newBuilder().bceRequest(wrong).build());
            throw new AssertionError("it was to be refused");
        } catch (ApiException error) {
            refused = client.getObjectMapper().readValue(error.getResponseBody(), Problem.class);
        }

        lossdnpy.ApiClient other = new lossdnpy.ApiClient();
        other.setObjectMapper(new FileMapper(client.getObjectMapper()));
        other.updateBaseUri(url);
        other.setRequestInterceptor(request -> request.header("X-API-Key", key));
        lossdnpy.model.LossAnswer files = new lossdnpy.api.LossesApi(other).focal(
            lossdnpy.api.LossesApi.APIFocalRequest.newBuilder()
                .body(new File(folder, "pair.npy")).gamma(2.0).report("totals").build());

        Map<String, Object> found = new LinkedHashMap<>();
        found.put("mean", mean.getLoss());
        found.put("sum_terms", mean.getSumTerms());
        found.put("request_id", mean.getRequestId());
        found.put("rows", rows.getLoss());
        found.put("infinite", infinite.getSum());
        found.put("report_sum", report.getTotals().getSum().getDouble());
        found.put("report_rows", report.getTotals().getRows());
        found.put("worst", report.getTop().getRows().get(0).getIndex());
        found.put("worst_loss", report.getTop().getRows().get(0).getLoss().getDouble());
        found.put("groups", report.getGroups().getIds());
        found.put("bins", report.getCalibration().getBins().getLong());
        found.put("code", refused.getCode());
        found.put("status", refused.getStatus());
        found.put("retryable", refused.getRetryable());
        found.put("pointer", refused.getErrors().get(0).getPointer());
        found.put("files", files.getLoss());
        found.put("files_count", files.getReport().getTotals().getCount());
        System.out.println(client.getObjectMapper().writeValueAsString(found));
    }
}
