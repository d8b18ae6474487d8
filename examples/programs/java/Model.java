import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A model as a program: a V2 request comes in as one line of JSON, its response goes out as one line. */
public class Model {
  static final double[] WEIGHTS = {0.02, 0.00003, -0.0001};
  static final double BIAS = -1.5;
  // Enough for the one matrix of this model; a library such as Jackson reads any request.
  static final Pattern ID = Pattern.compile("\"id\":\"([^\"\\\\]*)\"");
  static final Pattern DATA = Pattern.compile("\"data\":\\[([^\\]]*)\\]");

  public static void main(String[] arguments) throws Exception {
    var in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
    var out = new PrintStream(System.out, true, "UTF-8");
    for (String line; (line = in.readLine()) != null; ) {
      String id = find(ID, line);
      try {
        out.println(answer(id, find(DATA, line)));
      } catch (RuntimeException error) {  // a request that the model does not take
        out.println("{\"id\":\"" + id + "\",\"error\":\"" + error.getClass().getSimpleName() + "\"}");
      }
    }
  }

  static String answer(String id, String data) {
    String[] values = data.split(",");
    int rows = values.length / WEIGHTS.length;
    var labels = new StringBuilder();
    var probabilities = new StringBuilder();
    for (int row = 0; row < rows; row++) {
      double sum = BIAS;
      for (int i = 0; i < WEIGHTS.length; i++) sum += WEIGHTS[i] * Double.parseDouble(values[row * WEIGHTS.length + i]);
      double probability = 1 / (1 + Math.exp(-sum));
      labels.append(row > 0 ? "," : "").append(probability > 0.5 ? 1 : 0);
      probabilities.append(row > 0 ? "," : "").append(probability);
    }
    return "{\"id\":\"" + id + "\",\"outputs\":["
        + "{\"name\":\"label\",\"datatype\":\"INT64\",\"shape\":[" + rows + "],\"data\":[" + labels + "]},"
        + "{\"name\":\"probability\",\"datatype\":\"FP64\",\"shape\":[" + rows + "],\"data\":[" + probabilities + "]}]}";
  }

  static String find(Pattern pattern, String line) {
    Matcher matcher = pattern.matcher(line);
    return matcher.find() ? matcher.group(1) : "";
  }
}
